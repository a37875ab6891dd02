"""Compression runs: ADMM against direct decomposition, resuming to the bit, failing with nothing
lost, and two processes that do what one does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from drawbar.gen.errors import ArtefactError, InputError, NetworkError
from drawbar.sw.compress.compression import (
    CHECKPOINT,
    Compressed,
    balanced,
    compress_model,
)
from drawbar.sw.compress.data import Dataset, load_dataset
from drawbar.sw.compress.factorised import FactorisedLayer
from drawbar.sw.compress.formats import Spec
from drawbar.sw.compress.layers import decompose, layer_spec
from drawbar.sw.compress.settings import Settings
from drawbar.sw.compress.storage import unpack
from drawbar.sw.compress.train import accuracy

SETTINGS = Settings(
    dense_epochs=2,
    admm_epochs=3,
    tuning_epochs=2,
    batch_size=32,
    lr=5e-3,
    admm_lr=5e-3,
    tuning_lr=5e-3,
    rho_first=0.02,
    rho_last=0.5,
    noise=0.05,
    label_smoothing=0.05,
    distillation=0.3,
    weight_decay=0.01,
    seed=3,
)
STORED = replace(SETTINGS, storage_epochs=3)
BITS = {"*": 3, "fc2.*": 5}
LAYERS = {"fc1": {"modes_out": (4, 6), "modes_in": (4, 4), "max_rank": 2}}


def dataset(samples: int = 320) -> Dataset:
    """Four classes, told apart by the largest of four sums of squares."""
    x = np.random.default_rng(7).standard_normal((samples, 16)).astype(np.float32)
    y = np.square(x).reshape(samples, 4, 4).sum(axis=2).argmax(axis=1)
    cut = samples * 4 // 5
    return Dataset("squares", x[:cut], y[:cut], x[cut:], y[cut:], classes=4)


def model() -> nn.Sequential:
    torch.manual_seed(11)
    sequence = nn.Sequential()
    sequence.add_module("fc1", nn.Linear(16, 24))
    sequence.add_module("relu", nn.ReLU())
    sequence.add_module("drop", nn.Dropout(0.1))
    sequence.add_module("fc2", nn.Linear(24, 4))
    return sequence


def choose(dense: nn.Module) -> dict[str, Spec]:
    return {
        name: layer_spec(dense.get_submodule(name), name, **asked) for name, asked in LAYERS.items()
    }


def run(settings: Settings = SETTINGS, **options) -> Compressed:  # type: ignore[no-untyped-def]
    return compress_model(model(), choose, dataset(), settings, **options)


def state(found: Compressed) -> dict[str, torch.Tensor]:
    return found.model.state_dict()


def same(a: Compressed, b: Compressed) -> bool:
    first, second = state(a), state(b)
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_phases_rows_and_accuracies() -> None:
    before = model()
    seen: list[tuple[int, int, str]] = []
    found = run(progress=lambda *what: seen.append(what))
    assert [done for done, _, _ in seen] == list(range(1, 8))
    assert {total for _, total, _ in seen} == {7}
    phases = [(row["phase"], row["epoch"]) for row in found.history]
    assert phases == [
        ("dense", 1), ("dense", 2), ("admm", 1), ("admm", 2), ("admm", 3), ("tuning", 1),
        ("tuning", 2),
    ]  # fmt: skip
    for row in found.history:
        assert ("residuals" in row) == (row["phase"] == "admm")
    assert [row["rho"] for row in found.history[2:5]] == pytest.approx([0.02, 0.1, 0.5])
    assert found.accuracy.keys() == {"dense", "direct", "decomposed", "tuned"}
    assert found.accuracy["dense"] == found.history[1]["accuracy"]
    assert found.accuracy["tuned"] == found.history[-1]["accuracy"]
    json.dumps(found.history)
    layer = found.model.get_submodule("fc1")
    assert isinstance(layer, FactorisedLayer)
    assert sum(core.numel() for core in layer.cores) == found.specs["fc1"].parameters == 80
    assert not found.model.training
    # The model that was given is as it was.
    assert all(
        torch.equal(a, b) for a, b in zip(before.parameters(), model().parameters(), strict=True)
    )


def test_admm_keeps_what_a_direct_decomposition_loses() -> None:
    """Handwritten digits, 10 times fewer weights in the large layer; equally many epochs."""
    digits = load_dataset("digits")
    torch.manual_seed(1)
    dense = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    asked = {"modes_out": (4, 4, 4), "modes_in": (4, 4, 4), "max_rank": 4}

    def tt(trained: nn.Module) -> dict[str, Spec]:
        return {"0": layer_spec(trained.get_submodule("0"), "0", **asked)}

    settings = Settings(
        dense_epochs=10, admm_epochs=15, tuning_epochs=1, batch_size=32, admm_lr=3e-3
    )
    admm = compress_model(dense, tt, digits, settings)
    control = replace(settings, method="direct", dense_epochs=25)
    direct = compress_model(dense, tt, digits, control)
    assert admm.accuracy["decomposed"] > 80
    assert direct.accuracy["decomposed"] < 60
    assert "admm" not in {row["phase"] for row in direct.history}
    residuals = [row["residuals"][0]["primal"] for row in admm.history if "residuals" in row]
    assert residuals[-1] < 0.5 * residuals[0]


class Killed(Exception):
    """Stands for a process that ends in the middle."""


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 6, 7, 8, 10])
def test_a_killed_run_goes_on_to_the_same_bits(epochs: int, tmp_path: Path) -> None:
    whole = run(STORED, bits=BITS)

    def kill(done: int, _total: int, _text: str) -> None:
        if done == epochs:
            raise Killed

    with pytest.raises(Killed):
        run(STORED, bits=BITS, folder=tmp_path, progress=kill)
    torch.manual_seed(epochs)  # what the process did in between does not matter
    done: list[int] = []
    resumed = run(STORED, bits=BITS, folder=tmp_path, progress=lambda n, *_: done.append(n))
    assert done == list(range(epochs + 1, 11))
    assert same(resumed, whole)
    assert resumed.packed == whole.packed
    assert resumed.history == whole.history
    assert resumed.accuracy == whole.accuracy
    assert resumed.specs == whole.specs


def test_products_are_of_the_precision_and_all_else_of_float32() -> None:
    seen: set[tuple[bool, torch.dtype]] = set()

    class Looking(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            result = super().forward(input)
            seen.add((self.training, result.dtype))
            return result

    for precision in (torch.float32, torch.bfloat16):
        seen.clear()
        network = model()
        network.fc2 = Looking(24, 4)
        settings = replace(SETTINGS, precision=str(precision).removeprefix("torch."))
        made = compress_model(network, choose, dataset(), settings)
        # Accuracies and the teacher are of models at inference; only the teacher is in autocast.
        assert {dtype for training, dtype in seen if training} == {precision}
        assert {p.dtype for p in made.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("epochs", [1, 3, 5])
@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "sgd", "lr": 0.05, "admm_lr": 0.02, "tuning_lr": 0.02},
        {"precision": "bfloat16"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_killed_run_of_other_arithmetic(change: dict, epochs: int, tmp_path: Path) -> None:
    settings = replace(SETTINGS, **change)
    whole = run(settings)
    assert not same(whole, run(SETTINGS))

    def kill(done: int, _total: int, _text: str) -> None:
        if done == epochs:
            raise Killed

    with pytest.raises(Killed):
        run(settings, folder=tmp_path, progress=kill)
    resumed = run(settings, folder=tmp_path)
    assert same(resumed, whole)
    assert resumed.history == whole.history


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_a_killed_run_of_another_memory_layout(epochs: int, tmp_path: Path) -> None:
    """Convolutions with channels innermost: a checkpoint has them outermost."""
    torch.manual_seed(5)
    network = nn.Sequential()
    network.add_module("image", nn.Unflatten(1, (1, 4, 4)))
    network.add_module("conv1", nn.Conv2d(1, 6, 2))
    network.add_module("relu", nn.ReLU())
    network.add_module("conv2", nn.Conv2d(6, 8, 2))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(32, 4))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(**options: object) -> Compressed:
        return compress_model(
            network,
            lambda dense: {"conv2": layer_spec(dense.get_submodule("conv2"), "conv2", **ranks)},
            dataset(),
            replace(SETTINGS, shift=1),
            **options,  # type: ignore[arg-type]
        )

    ranks = {"modes_out": (8,), "modes_in": (6,), "max_rank": 2, "layout": "out_kernel_in"}

    def kill(done: int, _total: int, _text: str) -> None:
        if done == epochs:
            raise Killed

    with pytest.raises(Killed):
        train(folder=tmp_path, progress=kill)
    assert same(train(folder=tmp_path), train())


def test_the_seed_decides_and_the_random_state_stays() -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = compress_model(MODEL, choose, dataset(), SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(100)
    assert same(first, compress_model(MODEL, choose, dataset(), SETTINGS))
    assert not same(first, compress_model(MODEL, choose, dataset(), replace(SETTINGS, seed=4)))


MODEL = model()


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    run(folder=tmp_path, config={"layers": {"fc1": 2}})
    before = (tmp_path / CHECKPOINT).read_bytes()
    for change, options, match in (
        ({"admm_lr": 1e-3}, {}, r"settings.admm_lr: 0.005, now 0.001"),
        ({}, {"config": {"layers": {"fc1": 3}}}, r"layers.fc1: 2, now 3"),
        ({"seed": 5, "lr": 1e-3}, {}, r"settings.lr: .*; settings.seed: 3, now 5"),
    ):
        with pytest.raises(ArtefactError, match=match):
            run(
                replace(SETTINGS, **change),
                folder=tmp_path,
                **{"config": {"layers": {"fc1": 2}}, **options},
            )
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(folder=tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtefactError, match="start the run again in another folder"):
        run(folder=tmp_path)


def test_nan_names_layer_and_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        run(replace(SETTINGS, tuning_lr=1e30), folder=tmp_path)
    error = caught.value
    assert error.subject in {
        f"layer 'fc{n}', step {s} of the training" for n in (1, 2) for s in (2, 3)
    }
    assert "keeps the loss finite" in error.rule
    assert error.fix.endswith(f"the last good state is in {tmp_path / CHECKPOINT}")
    # It is that of the epoch before, and whole: all of ADMM is in it, and nothing of the failure.
    seen: list[str] = []
    with pytest.raises(NetworkError):
        run(
            replace(SETTINGS, tuning_lr=1e30),
            folder=tmp_path,
            progress=lambda _done, _total, text: seen.append(text),
        )
    assert seen == []


def test_balanced_cores_are_the_same_weight() -> None:
    made = decompose(model(), {"fc1": {**LAYERS["fc1"]}})
    layer = made.get_submodule("fc1")
    assert isinstance(layer, FactorisedLayer)
    before = layer.reconstruct().detach().clone()
    with torch.no_grad():
        layer.cores[0].mul_(10)
        layer.cores[1].div_(10)
    assert balanced(made) is made
    norms = [core.norm().item() for core in layer.cores]
    assert max(norms) == pytest.approx(min(norms))
    torch.testing.assert_close(layer.reconstruct(), before)


def test_weights_of_few_bits() -> None:
    found = run(STORED, bits=BITS)
    assert list(found.accuracy) == ["dense", "direct", "decomposed", "tuned", "stored"]
    assert [row["phase"] for row in found.history].count("storage") == 3
    assert {name: bits for name, bits in found.bits.items() if bits == 5}.keys() == {
        "fc2.weight",
        "fc2.bias",
    }
    for name, parameter in found.model.named_parameters():
        assert len(parameter.unique()) <= 1 << found.bits[name]
    # The accuracy is that of the file, read into the model as it was before.
    read = unpack(decompose(model(), found.specs), found.packed)
    data = dataset()
    assert accuracy(read, data.test_x, data.test_y) == found.accuracy["stored"]
    same_run = run(SETTINGS)
    assert found.accuracy["tuned"] == same_run.accuracy["tuned"]
    assert "stored" not in same_run.accuracy


def test_bits_are_checked_before_any_epoch() -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an epoch was trained")

    for bits, rule in (({"*": 9}, "1 to 8 bits"), ({"fc7.*": 4}, "names of the model")):
        with pytest.raises(InputError, match=rule):
            run(STORED, bits=bits, progress=fail)
    with pytest.raises(InputError, match=r"share their cores; found fc3"):
        run(share=("fc1", "fc3"), progress=fail)


def test_layers_share_a_core_from_the_decomposition_on(tmp_path: Path) -> None:
    ranks = {"format": "ada_tucker", "ranks": (2, 3, 2, 3)}

    def network() -> nn.Module:
        torch.manual_seed(2)
        sequence = nn.Sequential()
        sequence.add_module("fc1", nn.Linear(16, 24))
        sequence.add_module("relu", nn.ReLU())
        sequence.add_module("fc2", nn.Linear(24, 16))
        return sequence

    def specs(dense: nn.Module) -> dict[str, Spec]:
        return {n: layer_spec(dense.get_submodule(n), n, **ranks) for n in ("fc1", "fc2")}

    def shared(folder: Path) -> Compressed:
        return compress_model(
            network(), specs, dataset(), STORED, bits={"*": 4}, share=("fc1", "fc2"), folder=folder
        )

    found = shared(tmp_path)
    first, second = (found.model.get_submodule(n).cores[0] for n in ("fc1", "fc2"))  # type: ignore[index]
    assert first is second
    assert (
        sum(p.numel() for p in found.model.parameters())
        == sum(spec.parameters for spec in found.specs.values()) - first.numel() + 24 + 16
    )
    assert shared(tmp_path).packed == found.packed  # from the last checkpoint
    with pytest.raises(NetworkError, match=r"'fc2': has a Tucker core"):
        compress_model(
            network(),
            lambda dense: {n: s for n, s in specs(dense).items() if n == "fc1"},
            dataset(),
            STORED,
            share=("fc1", "fc2"),
        )


def test_images_are_moved_from_a_phase_on() -> None:
    moved = {
        phase: run(replace(SETTINGS, shift=1, mirror=0.5, augment_from=phase)).history
        for phase in ("dense", "tuning", "storage")
    }
    still = run().history
    assert moved["storage"] == still
    assert [a == b for a, b in zip(moved["tuning"], still, strict=True)] == [True] * 5 + [False] * 2
    assert not any(a == b for a, b in zip(moved["dense"], still, strict=True))


def test_accuracy_between_the_phases_can_be_left_out() -> None:
    found = run(replace(SETTINGS, measure_every=2))
    measured = [row["accuracy"] is not None for row in found.history]
    assert measured == [False, True, False, True, False, False, True]
    assert state(found).keys() == state(run()).keys()
    assert same(found, run())


def test_a_warm_up_is_gentle_with_trained_weights_only() -> None:
    found = {epochs: run(replace(SETTINGS, warmup=epochs)).history for epochs in (0, 1)}
    assert found[0][:2] == found[1][:2]  # the dense epochs
    assert found[0][2]["loss"] != found[1][2]["loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu() -> None:
    """It draws noise and what drops out in its own way, so the losses are nearly the same."""
    found = run(device="cuda")
    assert next(found.model.parameters()).is_cuda
    here = [row["loss"] for row in run().history]
    assert [row["loss"] for row in found.history] == pytest.approx(here, rel=0.05)


PARALLEL = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from test_compression import SETTINGS, choose, dataset, model
from dataclasses import replace
from drawbar.sw.compress import parallel
from drawbar.sw.compress.compression import compress_model

plain = replace(SETTINGS, batch_size={batch}, dense_epochs=1, admm_epochs=2, tuning_epochs=1)
torch.set_default_dtype(torch.float64)
network = model()
network.drop.p = 0.0
with parallel.processes():
    found = compress_model(network, choose, dataset(317), plain, folder={folder!r})
    assert parallel.world() == {world}
    rank = parallel.rank()
save_file(found.model.state_dict(), {folder!r} + f"/rank{{rank}}.safetensors")
"""


def test_two_processes_do_what_one_does_with_twice_the_batch(tmp_path: Path) -> None:
    """253 training samples, so that the last batch is ragged; noise and teacher included."""
    from safetensors.torch import load_file

    here = Path(__file__).parent
    results = {}
    for world, batch in ((1, 32), (2, 16)):
        folder = tmp_path / str(world)
        folder.mkdir()
        script = folder / "train.py"
        script.write_text(
            PARALLEL.format(
                tests=str(here.parents[1]), here=str(here), batch=batch, world=world,
                folder=str(folder),
            )
        )  # fmt: skip
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        done = subprocess.run(
            [sys.executable, *(launch if world > 1 else []), str(script)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        results[world] = [load_file(folder / f"rank{rank}.safetensors") for rank in range(world)]
    (one,), (first, second) = results[1], results[2]
    for name, value in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-6, atol=1e-8)
