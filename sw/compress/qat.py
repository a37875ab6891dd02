"""Quantisation-aware fine-tuning: a planned model in PyTorch that computes the engine's integers.

The forward pass is the engine's, stage by stage: integer cores from ``quantise.stage_integers``,
exact products (integers in float64, below 2**53), bias, shift with round-half-to-even, saturation.
Backward, roundings are passed as if they were not there (straight-through estimator), and
saturation lets nothing through. So what is trained is what runs, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from drawbar.gen.errors import InputError
from drawbar.gen.network import Core
from drawbar.gen.planned import Plan, PlannedStage
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.gradients import Gradients
from drawbar.sw.compress.quantise import (
    Scales,
    StageIntegers,
    calibrate,
    float_stages,
    stage_integers,
)
from drawbar.sw.compress.train import Cosine, Progress, as_tensors, seeded, train_epoch


class _Rounded(torch.autograd.Function):
    """Integers that were computed elsewhere, with the gradient of the numbers that they round."""

    @staticmethod
    def forward(ctx: Any, numbers: torch.Tensor, integers: torch.Tensor) -> torch.Tensor:
        return integers.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


class _RoundHalfToEven(torch.autograd.Function):
    """``torch.round`` with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, numbers: torch.Tensor) -> torch.Tensor:
        return torch.round(numbers)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


class QuantisedModel(nn.Module):
    """A planned model with trainable cores and biases, in the engine's arithmetic.

    Arguments
    ---------
    plan:
        Gives the stages, and the first values.
    scales:
        Stay as they are, while the cores train.
    core_bits:
        Mixed widths: see ``quantise.stage_integers``.

    Members
    -------
    cores, biases:
        Of all layers, float64.

    Raises
    ------
    InputError:
        the plan is of a graph of layers.
    """

    def __init__(
        self, plan: Plan, scales: Scales, core_bits: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        if plan.is_graph:
            raise InputError(
                f"model {plan.model.name!r}, tuning in integers",
                "is for chains of linear layers",
                "a graph of layers",
                "tune it in float",
            )
        self._plan, self.scales, self.core_bits = plan, scales, dict(core_bits or {})
        self.cores = nn.ParameterList(
            nn.Parameter(torch.tensor(core.values, dtype=torch.float64))
            for network in plan.networks
            for core in network.cores
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.tensor(network.bias, dtype=torch.float64))
            for network in plan.networks
            if network.bias is not None
        )

    def plan(self) -> Plan:
        """The plan with the values as trained so far: what ``quantise`` takes, with ``scales``."""
        cores, biases = iter(self.cores), iter(self.biases)

        def array(parameter: nn.Parameter) -> np.ndarray:
            return parameter.detach().cpu().numpy().copy()

        networks = tuple(
            replace(
                network,
                cores=tuple(Core(core.indices, array(next(cores))) for core in network.cores),
                bias=None if network.bias is None else array(next(biases)),
            )
            for network in self._plan.networks
        )
        return replace(self._plan, networks=networks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Real inputs ``(samples, inputs)`` to real outputs ``(samples, outputs)``, as
        ``Artefact.dequantise_output`` gives them.
        """
        config = self._plan.config
        plan = self.plan()
        scale = 2.0**self.scales.input_bits
        integers = torch.round(x.double() * scale).clamp(config.data_min, config.data_max)
        made = stage_integers(plan, self.scales, self.core_bits)
        live, indices = integers, ()
        ended = True
        for number, (planned, stage) in enumerate(zip(plan.stages, made, strict=True)):
            network = plan.networks[planned.layer]
            if ended:
                indices = network.input
                live = live.reshape(len(x), *(network.sizes[i] for i in indices))
            live, indices = _product(live, indices, self._core(planned, stage), planned)
            ended = planned.ends_layer
            if ended:
                axes = [1 + indices.index(i) for i in network.output]
                live = live.permute(0, *axes).reshape(len(x), -1)
                if stage.biases is not None:
                    live = live + self._biases(planned, stage)
            live = _RoundHalfToEven.apply(live / 2.0**stage.shift)
            positive = ended and network.activation == "relu"
            live = live.clamp(0 if positive else config.data_min, config.data_max)
            assert number == len(made) - 1 or stage.scale_out == made[number + 1].scale_in
        return live / made[-1].scale_out

    def _core(self, planned: PlannedStage, stage: StageIntegers) -> torch.Tensor:
        """The stage's merged core as integers, in the index order of ``planned.core_order``."""
        network = self._plan.networks[planned.layer]
        first = sum(len(before.cores) for before in self._plan.networks[: planned.layer])
        numbers = {index: number for number, index in enumerate(network.sizes)}
        operands: list[Any] = []
        for core in planned.step.group:
            operands += [
                self.cores[first + core],
                [numbers[i] for i in network.cores[core].indices],
            ]
        merged = torch.einsum(*operands, [numbers[i] for i in planned.core_order])
        factor = stage.scale_out * 2.0**stage.shift / stage.scale_in
        integers = torch.from_numpy(stage.core.astype(np.float64)).to(merged.device)
        return _Rounded.apply(merged * factor, integers.reshape(merged.shape))

    def _biases(self, planned: PlannedStage, stage: StageIntegers) -> torch.Tensor:
        before = self._plan.networks[: planned.layer]
        bias = self.biases[sum(network.bias is not None for network in before)]
        assert stage.biases is not None
        integers = torch.from_numpy(stage.biases.astype(np.float64)).to(bias.device)
        return _Rounded.apply(bias * (stage.scale_out * 2.0**stage.shift), integers)


def _product(
    live: torch.Tensor, indices: tuple[str, ...], core: torch.Tensor, planned: PlannedStage
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Exact integer products of a stage, by index names; samples are the first axis."""
    numbers = {i: n for n, i in enumerate(dict.fromkeys((*indices, *planned.core_order)), 1)}
    result = (*(i for i in indices if i not in planned.k_order), *planned.row_order)
    product = torch.einsum(
        live,
        [0, *(numbers[i] for i in indices)],
        core,
        [numbers[i] for i in planned.core_order],
        [0, *(numbers[i] for i in result)],
    )
    return product, result


def output_error(
    plan: Plan, samples: np.ndarray, core_bits: Mapping[str, int] | None = None
) -> float:
    """Mean squared difference of the quantised model's output from the float one's.

    Arguments
    ---------
    samples:
        Real inputs ``(samples, inputs)``; the scales come from them too.
    """
    *_, (_, _, exact) = float_stages(plan, samples)
    with torch.no_grad():
        model = QuantisedModel(plan, calibrate(plan, samples), core_bits)
        found = model(torch.from_numpy(samples)).numpy()
    return float(np.mean((found - exact.values) ** 2))


def tune_quantised(
    plan: Plan,
    dataset: Dataset,
    *,
    calibration: np.ndarray,
    core_bits: Mapping[str, int] | None = None,
    epochs: int = 1,
    lr: float = 1e-4,
    batch_size: int = 128,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> QuantisedModel:
    """Fine-tune a planned classifier in the engine's integers.

    Arguments
    ---------
    calibration:
        Real inputs ``(samples, inputs)``; the scales are chosen from them once more before each
        epoch.

    The same seed gives the same bits, as in ``compression``.

    Returns
    -------
    The model; ``quantise(model.plan(), calibration, scales=model.scales,
    core_bits=model.core_bits)`` is its artefact.

    Raises
    ------
    InputError:
        data or a setting that does not fit.
    NetworkError:
        the loss is no longer finite.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("lr", lr)):
        if not value > 0:
            raise InputError(f"quantised tuning, {name}", "is more than 0", value, f"raise {name}")
    model = QuantisedModel(plan, calibrate(plan, calibration), core_bits).to(device)
    inputs, classes = as_tensors(model, dataset.train_x, dataset.train_y)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    steps = -(-len(inputs) // batch_size)
    loss = nn.CrossEntropyLoss()
    gradients = Gradients(model.parameters(), lambda batch, right: loss(model(batch), right))
    for epoch in range(epochs):
        model.scales = calibrate(model.plan(), calibration)
        schedule = Cosine(optimiser, lr, epochs * steps, done=epoch * steps)
        with seeded(seed, epoch, device=inputs.device):
            mean = train_epoch(
                model,
                inputs,
                classes,
                gradients,
                optimiser,
                schedule,
                batch_size=batch_size,
                first_step=epoch * steps,
            )
        if progress is not None:
            progress(epoch + 1, epochs, f"quantised, loss {mean:.4f}")
    return model.eval()
