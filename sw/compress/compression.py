"""Compression of a classifier: dense training, ADMM, decomposition, fine-tuning, weights of a few
bits; resumable.

A run is a sequence of epochs. Each draws its random numbers from a seed of its own, so the weights,
the optimiser and ADMM's tensors after an epoch are the whole state: a run that was killed goes on
from its last checkpoint and ends with the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drawbar.gen.errors import InputError, NetworkError
from drawbar.sw.compress import parallel
from drawbar.sw.compress.admm import Admm, geometric
from drawbar.sw.compress.augment import Augmentation
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.checkpoint import load_checkpoint, save_checkpoint
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.factorised import FactorisedLayer
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.formats.ada_tucker import share_core
from drawbar.sw.compress.gradients import Gradients, RecordedGradients
from drawbar.sw.compress.layers import decompose, layer_spec
from drawbar.sw.compress.rank_choice import Target, choose_ranks
from drawbar.sw.compress.settings import PHASES, Settings
from drawbar.sw.compress.storage import LowBitModel, bits_of, check_bits
from drawbar.sw.compress.train import (
    Cosine,
    Progress,
    accuracy,
    as_tensors,
    make_optimiser,
    seeded,
    train_epoch,
)

CHECKPOINT = "checkpoint.safetensors"
#: What ``Compressed.accuracy`` holds, in the order of a run.
MARKS = ("dense", "direct", "decomposed", "tuned", "stored")

#: A trained dense model to the structure of each layer that is compressed.
Choose = Callable[[nn.Module], Mapping[str, Spec]]


@dataclass
class Compressed:
    """What a run has made so far, and in the end.

    Members
    -------
    model:
        The model; its layers are cores from the last phase on.
    specs:
        Structure of each compressed layer; empty before ADMM.
    history:
        A row for each epoch: phase, epoch, loss, accuracy on the test split (percent; None where it
        was not measured), and under ADMM rho and each layer's residuals.
    accuracy:
        On the test split, in percent: ``dense`` (as trained), ``direct`` (its weights decomposed
        as they are), ``decomposed`` (before fine-tuning), ``tuned``, and ``stored`` (with the
        values of ``packed``).
    bits:
        Of each parameter in ``packed``, by name; empty where nothing was asked.
    packed:
        The model's weights in so many bits: the bytes of a file (``storage.unpack``).
    """

    model: nn.Module
    specs: dict[str, Spec] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    packed: bytes = b""


def compress_model(
    model: nn.Module,
    choose: Choose,
    dataset: Dataset,
    settings: Settings,
    *,
    bits: Mapping[str, int] | None = None,
    share: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Compressed:
    """Train and compress a classifier.

    Arguments
    ---------
    model:
        Takes ``(samples, features)``; it stays as it is.
    choose:
        Called with the trained dense model.
    bits:
        Of the weights that are stored, as in ``storage.bits_of``. Without it they stay as they are.
    share:
        Layers whose Tucker cores are one (SCADA-Tucker) from the decomposition on.
    config:
        What ``choose`` stands for, as JSON values: a checkpoint is good for the same only.
    folder:
        Where the checkpoint is kept, after each epoch. A run that finds one goes on from there.
    progress:
        Called after each epoch with epochs done, epochs in all, and a text.

    Raises
    ------
    ArtefactError:
        the folder's checkpoint is damaged, or from another configuration.
    NetworkError:
        the loss is no longer finite; the last good checkpoint stays.
    """
    run = _Run(copy.deepcopy(model).to(device), choose, dataset, settings, bits, share)
    path = None if folder is None else Path(folder) / CHECKPOINT
    described = {
        "settings": asdict(settings),
        "data": [dataset.name, len(dataset.train_x), len(dataset.test_x)],
        "model": {name: list(value.shape) for name, value in model.state_dict().items()},
        "processes": parallel.world(),
        "bits": dict(bits or {}),
        "share": list(share),
        **(config or {}),
    }
    if path is not None and path.is_file():
        run.load(*load_checkpoint(path, described))
    total = sum(settings.epochs(phase) for phase in run.phases)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(settings.threads or threads)
        for text in run.epochs():
            if path is not None and parallel.rank() == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                save_checkpoint(path, *run.state(), described)
            if progress is not None and parallel.rank() == 0:
                progress(len(run.result.history), total, text)
    except NetworkError as error:
        kept = f"; the last good state is in {path}" if path and path.is_file() else ""
        raise NetworkError(error.subject, error.rule, error.value, error.fix + kept) from None
    finally:
        torch.set_num_threads(threads)
    return run.result


def layer_specs(model: nn.Module, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Spec]:
    """The structure of each layer from what ``layers.layer_spec`` takes.

    Raises
    ------
    NetworkError:
        no such layer, or settings that do not fit it.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules or not name:
            known = [n for n, m in modules.items() if type(m) in (nn.Linear, nn.Conv2d)]
            raise NetworkError(
                f"layer {name!r}", "is in the model", "no such layer", f"name one of {known}"
            )
    return {n: layer_spec(modules[n], n, stacklevel=2, **asked) for n, asked in layers.items()}


def named_layers(
    model: nn.Module, layers: Mapping[str, Mapping[str, Any]] | None, format: str
) -> dict[str, dict[str, Any]]:
    """The layers to compress, each with its format: those that are named, or every linear layer but
    the last.

    Raises
    ------
    NetworkError:
        there is nothing to compress.
    """
    if layers is None:
        linear = [n for n, module in model.named_modules() if n and type(module) is nn.Linear]
        layers = {name: {} for name in linear[:-1]}
    if not layers:
        raise NetworkError(
            "model to compress", "has layers to compress", "none", "name the layers to compress"
        )
    return {name: {"format": format, **asked} for name, asked in layers.items()}


def choose_specs(
    model: nn.Module, layers: Mapping[str, Mapping[str, Any]], target: Target | None
) -> dict[str, Spec]:
    """The structure of each layer: with the ranks that it names, or those that meet the target.

    Raises
    ------
    NetworkError, InputError, FitError:
        layers that do not fit the model; a target that cannot be met.
    """
    return layer_specs(model, layers) if target is None else choose_ranks(model, layers, target)


class _Run:
    """A run between two epochs."""

    def __init__(
        self,
        model: nn.Module,
        choose: Choose,
        dataset: Dataset,
        settings: Settings,
        bits: Mapping[str, int] | None,
        share: Sequence[str],
    ) -> None:
        self.settings, self.choose, self.dataset = settings, choose, dataset
        self.bits, self.share = bits, share
        self.phases = PHASES if bits else PHASES[:-1]
        self.inputs, self.classes = as_tensors(model, dataset.train_x, dataset.train_y)
        self.result = Compressed(model)
        self.augment = None
        if settings.shift or settings.mirror:
            self.augment = Augmentation(dataset.image, settings.shift, settings.mirror)
        self.phase, self.epoch = PHASES[0], 0  # of the epoch that comes next
        self.optimiser: torch.optim.Optimizer | None = None
        self.gradients: Gradients | None = None
        self.admm: Admm | None = None
        self.teacher: nn.Module | None = None
        self._check_names()
        parallel.same([*model.parameters(), *model.buffers()])

    def _check_names(self) -> None:
        """What bits and sharing name is in the model: said before hours of training."""
        names = {name for name, _ in self.model.named_modules()}
        if missing := [name for name in self.share if name not in names]:
            raise InputError(
                "compression, share",
                "names layers that share their cores",
                ", ".join(missing),
                "name layers of the model",
            )
        if self.bits:
            check_bits(self.model, self.bits)

    @property
    def model(self) -> nn.Module:
        return self.result.model

    def epochs(self) -> Iterator[str]:
        """Train epoch after epoch; yields a text after each."""
        for phase in self.phases[self.phases.index(self.phase) :]:
            if phase != self.phase:
                self._enter(phase)
            while self.epoch < self.settings.epochs(phase):
                text = self._train(phase)
                self.epoch += 1
                yield text
        found = self.result
        if isinstance(found.model, LowBitModel):
            found.bits = found.model.bits
            found.model, found.packed = found.model.baked()
        mark = "stored" if self.bits else "tuned"
        found.accuracy[mark] = self._accuracy(self.model)
        self.model.eval()

    def _enter(self, phase: str) -> None:
        """What happens between two phases."""
        self.phase, self.epoch, self.optimiser, self.gradients = phase, 0, None, None
        found = self.result
        if phase == "admm":
            found.accuracy["dense"] = self._accuracy(self.model)
            if self.settings.distillation:
                self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
            found.specs = dict(self.choose(self.model))
            found.accuracy["direct"] = self._accuracy(decompose(self.model, found.specs))
        elif phase == "tuning":
            self.admm = None
            found.model = self._shared(balanced(decompose(self.model, found.specs)))
            parallel.same(self.model.parameters())
            found.accuracy["decomposed"] = self._accuracy(self.model)
        else:
            found.accuracy["tuned"] = self._accuracy(self.model)
            found.model = self._low_bits(self.model)

    def _shared(self, model: nn.Module) -> nn.Module:
        """The same model; the layers that share a core share it."""
        if self.share:
            layers = {name: model.get_submodule(name) for name in self.share}
            share_core(layers)
        return model

    def _low_bits(self, model: nn.Module) -> LowBitModel:
        assert self.bits is not None
        return LowBitModel(model, bits_of(model, self.bits))

    def _prepare(self, phase: str) -> None:
        """The optimiser, its gradients and ADMM's state at the start of a phase, or before they are
        loaded.
        """
        self.optimiser = make_optimiser(
            self.settings.optimiser,
            self.model,
            lr=self.settings.rate(phase),
            weight_decay=self.settings.weight_decay,
        )
        if phase == "admm":
            weights = {name: _weight(self.model, name) for name in self.result.specs}
            projections = {name: _projection(spec) for name, spec in self.result.specs.items()}
            self.admm = Admm(weights, projections)
        recorded = self.settings.cuda_graph and self.inputs.is_cuda
        self.gradients = (RecordedGradients if recorded else Gradients)(
            self.model.parameters(),
            self._loss,
            None if self.admm is None else self.admm.penalty,
        )

    def _train(self, phase: str) -> str:
        settings = self.settings
        if self.optimiser is None:
            self._prepare(phase)
        assert self.optimiser is not None
        assert self.gradients is not None
        row: dict[str, Any] = {"phase": phase, "epoch": self.epoch + 1}
        if self.admm is not None:
            rho = geometric(settings.rho_first, settings.rho_last, settings.admm_epochs)[self.epoch]
            row["rho"] = rho
            row["residuals"] = [asdict(found) for found in self.admm.update(rho)]
        steps = -(-len(self.inputs) // (settings.batch_size * parallel.world()))
        done = self.epoch * steps
        schedule = Cosine(
            self.optimiser,
            settings.rate(phase),
            settings.epochs(phase) * steps,
            done=done,
            warmup=settings.warmup_epochs(phase) * steps,
            cycles=settings.rate_cycles(phase),
        )
        late = PHASES[PHASES.index(settings.augment_from) :]
        with seeded(settings.seed, PHASES.index(phase), self.epoch, device=self.inputs.device):
            row["loss"] = train_epoch(
                self.model,
                self.inputs,
                self.classes,
                self.gradients,
                self.optimiser,
                schedule,
                batch_size=settings.batch_size,
                noise=settings.noise,
                augment=self.augment if phase in late else None,
                first_step=done,
            )
        parallel.same(self.model.buffers())
        every = settings.measure_every
        measured = every and (self.epoch + 1) % every == 0
        row["accuracy"] = self._accuracy(self.model) if measured else None
        self.result.history.append(row)
        text = f"{phase} {self.epoch + 1}, loss {row['loss']:.4f}"
        return f"{text}, {row['accuracy']:.2f} %" if measured else text

    def _loss(self, batch: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        teacher = None
        low = self.settings.precision == "bfloat16"
        with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=low):
            if self.teacher is not None:
                with torch.no_grad():
                    teacher = self.teacher(batch).to(batch.dtype)
            outputs = self.model(batch).to(batch.dtype)
        return self.settings.loss(outputs, classes, teacher)

    def _accuracy(self, model: nn.Module) -> float:
        return accuracy(model, self.dataset.test_x, self.dataset.test_y)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything that the epochs to come depend on: tensors, and JSON values."""
        found = self.result
        facts: dict[str, Any] = {
            "phase": self.phase,
            "epoch": self.epoch,
            "specs": {name: spec.as_dict() for name, spec in found.specs.items()},
            "history": found.history,
            "accuracy": found.accuracy,
        }
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.teacher is not None:
            state = self.teacher.state_dict()
            tensors |= {f"teacher.{name}": value for name, value in state.items()}
        if self.admm is not None:
            facts["rho"] = self.admm.rho
            tensors |= {f"admm.{name}": value for name, value in self.admm.state().items()}
        assert self.optimiser is not None
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
        return tensors, facts

    def load(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """What ``state`` gave."""

        def part(prefix: str) -> dict[str, torch.Tensor]:
            start = f"{prefix}."
            return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}

        self.phase, self.epoch = facts["phase"], facts["epoch"]
        specs = {name: Spec.from_dict(spec) for name, spec in facts["specs"].items()}
        # JSON comes back sorted by name.
        marks = {name: facts["accuracy"][name] for name in MARKS if name in facts["accuracy"]}
        history = list(facts["history"])
        self.result = replace(self.result, specs=specs, history=history, accuracy=marks)
        if teacher := part("teacher"):
            self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
            self.teacher.load_state_dict(teacher)
        if self.phase in ("tuning", "storage"):  # its values are loaded next
            self.result.model = self._shared(decompose(self.model, specs))
        if self.phase == "storage":
            self.result.model = self._low_bits(self.model)
        self.model.load_state_dict(part("model"))
        self._prepare(self.phase)
        assert self.optimiser is not None
        state: dict[int, dict[str, torch.Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, value in part("optimiser").items():
            number, _, key = name.partition(".")
            like = parameters[int(number)]
            # The optimiser steps memory, element by element: its tensors must lie as the weights.
            moved = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            state.setdefault(int(number), {})[key] = moved
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        if self.admm is not None:
            self.admm.load_state(part("admm"), facts["rho"])


def balanced(model: nn.Module) -> nn.Module:
    """The same model with the cores of each layer scaled to equal norms, in place.

    A decomposition leaves the whole norm in one core; an optimiser that steps every number alike
    learns faster from equal ones.
    """
    for layer in model.modules():
        if isinstance(layer, FactorisedLayer):
            norms = torch.stack([core.detach().norm() for core in layer.cores])
            if (norms > 0).all():
                mean = norms.log().mean().exp()
                with torch.no_grad():
                    for core, norm in zip(layer.cores, norms, strict=True):
                        core *= mean / norm
    return model


def _weight(model: nn.Module, name: str) -> nn.Parameter:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _projection(spec: Spec) -> Callable[[torch.Tensor], torch.Tensor]:
    format_ = get_format(spec.format)
    return lambda weight: format_.project(weight, spec)
