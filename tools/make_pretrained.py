"""Train the weights that ship with the package: ``python tools/make_pretrained.py`` in the root."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from drawbar.gen.model_file import load_model, save_model
from drawbar.sw.compress import accuracy, load_dataset, lower, train_demo

NAMES = ("digits",)  # sets whose licence and size let their weights ship
FOLDER = Path(__file__).parents[1] / "src" / "drawbar" / "data"
LARGEST = 200_000  # bytes


def make(name: str) -> int:
    """Train, write and check one model; returns the process's exit status."""
    start = time.monotonic()
    dataset = load_dataset(name)
    module = train_demo(dataset, name)
    path = FOLDER / f"{name}.safetensors"
    FOLDER.mkdir(exist_ok=True)
    save_model(lower(module, name), path)
    percent = accuracy(module, dataset.test_x, dataset.test_y)
    right = load_model(path).forward(dataset.test_x).argmax(axis=1) == dataset.test_y
    size = path.stat().st_size
    print(
        f"{name}: {percent:.2f} % in PyTorch, {100 * right.mean():.2f} % from the file, "
        f"{size} bytes, {time.monotonic() - start:.1f} s"
    )
    if size > LARGEST:
        print(f"{path} is larger than {LARGEST} bytes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(max(make(name) for name in NAMES))
