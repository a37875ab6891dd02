"""Rows of the compression benchmark that need no training: counts of weights, and speed."""

from __future__ import annotations

import time
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

from drawbar.layer_suites import Row

#: What is wanted: times of a dense training step, times of tensorly's TT-SVD, difference of errors.
SLOWER, SLOWER_SVD, SAME_ERROR = 1.5, 1.1, 1e-10
#: Published weights of the input map of the UCF11 LSTM, and ratios of residual networks at rank 14.
UCF11 = {"tt": 3_360, "tensor_ring": 1_725, "block_term": 3_392}
RESNETS = {20: (269_722, 2.5, 9.0), 32: (464_154, 2.6, 9.5)}
RANK = 14


def check_row(
    name: str, value: float | None, unit: str, wanted: str = "", passed: bool | None = None
) -> Row:
    """A row; without anything wanted it is there to compare, without a value it was left out."""
    return {"name": name, "value": value, "unit": unit, "wanted": wanted, "passed": passed}


def left_out(name: str, why: str) -> Row:
    """A row that was not measured, and what measures it."""
    return check_row(f"{name}: left out", None, "", why)


def count_rows() -> list[Row]:
    """Weights of published networks, exactly."""
    counts = import_module("drawbar.sw.compress.counts")
    rows = []
    for format, wanted in UCF11.items():
        spec = counts.ucf11_lstm(format)
        rows.append(
            check_row(
                f"UCF11 LSTM, {format}, {spec.dense_weights / spec.parameters:,.0f}x",
                spec.parameters,
                "weights",
                f"{wanted:,}",
                spec.parameters == wanted,
            )
        )
    asked = {"max_rank": RANK, "clip": False, "grow": True}
    for depth, (weights, *ratios) in RESNETS.items():
        dense = counts.resnet_weights(depth)
        rows.append(
            check_row(f"ResNet-{depth}, dense", dense, "weights", f"{weights:,}", dense == weights)
        )
        for (format, more), wanted in zip((("tt", {}), ("stt", {"t": 2})), ratios, strict=True):
            ratio = dense / counts.resnet_weights(depth, format, **asked, **more)
            rows.append(
                check_row(
                    f"ResNet-{depth}, {format} rank {RANK}{', t = 2' if more else ''}",
                    ratio,
                    "times fewer",
                    f"about {wanted}",
                    round(ratio, 1) == wanted,
                )
            )
    return rows


def speed_rows(recipe: Any, *, batch: int = 128, steps: int = 60) -> list[Row]:
    """Time of a training step of the compressed network over the dense one's, with Adam and
    without, in one thread, by the processor's clock, which other programs do not prolong. The two
    are timed in turn; the rows have the ratios of the medians.
    """
    recipes = import_module("drawbar.sw.compress.recipes")
    compression = import_module("drawbar.sw.compress.compression")
    layers = import_module("drawbar.sw.compress.layers")
    train = import_module("drawbar.sw.compress.train")
    backend = import_module("drawbar.sw.compress.backend")
    dense = recipes.reference_model(recipe.model)
    cores = layers.decompose(dense, compression.layer_specs(dense, recipe.layers))
    rows = []
    threads = backend.torch.get_num_threads()
    backend.torch.set_num_threads(1)
    try:
        for what, optimise in (("forward, backward, Adam", True), ("forward, backward", False)):
            runs = [
                (train.timed_step(batch, model, optimise=optimise), []) for model in (dense, cores)
            ]
            for _ in range(steps):
                for step, times in runs:
                    started = time.process_time()
                    step()
                    times.append(time.process_time() - started)
            whole, small = (median(times) for _, times in runs)
            rows.append(
                check_row(
                    f"{what}: cores over dense ({1e3 * whole:.1f} ms), batch {batch}",
                    small / whole,
                    "times",
                    f"at most {SLOWER:g}",
                    small / whole <= SLOWER,
                )
            )
    finally:
        backend.torch.set_num_threads(threads)
    return rows


def svd_rows(*, size: int = 1024, rounds: int = 5) -> list[Row]:
    """TT-SVD of a random matrix beside tensorly's: time by the processor's clock, least of some
    rounds of each in turn, and how far the two errors are apart.
    """
    if find_spec("tensorly") is None:
        return [left_out("TT-SVD beside tensorly's", "pip install tensorly")]
    decomposition = import_module("tensorly.decomposition")
    import_module("tensorly").set_backend("pytorch")
    torch = import_module("drawbar.sw.compress.backend").torch
    tt = import_module("drawbar.sw.compress.tt")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, dtype=torch.float64, generator=generator)
    count = (size.bit_length() - 1) // 2
    modes, ranks = (4,) * count, (8,) * (count - 1)

    runs = (
        (lambda: tt.tt_svd(weight, modes, modes, ranks=ranks), tt.tt_reconstruct),
        (
            lambda: decomposition.tensor_train_matrix(
                weight.reshape(*modes, *modes), [1, *ranks, 1]
            ),
            lambda cores: cores.to_matrix(),
        ),
    )
    least, errors = [float("inf")] * 2, [0.0] * 2
    for _ in range(rounds):
        for number, (decompose, whole) in enumerate(runs):
            started = time.process_time()
            cores = decompose()
            least[number] = min(least[number], time.process_time() - started)
            apart = torch.linalg.norm(whole(cores) - weight)
            errors[number] = float(apart / torch.linalg.norm(weight))
    ratio, apart = least[0] / least[1], abs(errors[0] - errors[1])
    what = f"TT-SVD of {size} x {size}, ranks {ranks[0]}"
    return [
        check_row(
            f"{what}, over tensorly's {least[1]:.2f} s",
            ratio,
            "times",
            f"at most {SLOWER_SVD:g}",
            ratio <= SLOWER_SVD,
        ),
        check_row(
            f"{what}, error {errors[0]:.6f}, apart from tensorly's",
            apart,
            "of the norm",
            f"at most {SAME_ERROR:g}",
            apart <= SAME_ERROR,
        ),
    ]
