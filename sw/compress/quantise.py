"""Quantisation: a plan and calibration data in, integers out. NumPy only.

Every tensor between stages has one scale. A decomposed layer is multilinear and ReLU commutes with
positive factors, so those scales need not be powers of two: whatever is left over goes into the
core before it is rounded,

    core_integer = round(core * scale_out * 2**shift / scale_in)

and the engine's only rescaling is its rounding shift. Each intermediate then fills its range
exactly, and each core to within a factor of two. The model's input and output scales are powers of
two, so that hosts convert exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from drawbar.gen.artefact import Artefact, LayerReport
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.plan import Plan, core_matrix
from drawbar.gen.program import encode
from drawbar.sw.compress.core_images import core_image, place_bias
from drawbar.sw.compress.float_run import float_stages
from drawbar.sw.compress.join_scales import joined_scales, scale_groups, uneven
from drawbar.sw.compress.product_scales import (
    check_states,
    product_scales,
    product_shift,
    state_scales,
)
from drawbar.sw.compress.ranges import check_exact, check_ranges

#: Calibration samples that are looked at; more change little.
CALIBRATION = 512
#: The same for graphs, whose images are large.
GRAPH_CALIBRATION = 64
#: Fractions of the largest value seen that may become the end of the range. Clipping pays at 8
#: bits.
CLIPPING = (1.0, 0.9, 0.8, 0.7, 0.6)
#: What unseen data may exceed the calibration by before it saturates, by data width: 16 bits can
#: afford some.
HEADROOM = {8: 1.0, 16: 1.5}


def _error(values: np.ndarray, scale: float, config: EngineConfig) -> float:
    """Mean squared error of quantising with this scale."""
    integers = np.clip(np.rint(values * scale), config.data_min, config.data_max)
    return float(np.mean((integers / scale - values) ** 2))


def _fraction_bits(values: np.ndarray, config: EngineConfig) -> int:
    """The power of two that quantises ``values`` with the least mean squared error."""
    most = float(np.abs(values).max())
    if most == 0:
        return 0
    whole = int(np.floor(np.log2(config.data_max / most)))
    return min((whole, whole + 1), key=lambda bits: (_error(values, 2.0**bits, config), bits))


def _scale(values: np.ndarray, config: EngineConfig) -> float:
    """The scale that quantises ``values`` with the least mean squared error, and some headroom."""
    most = float(np.abs(values).max())
    if most == 0:
        return 1.0
    most *= HEADROOM[config.data_width]
    scales = [config.data_max / (most * clip) for clip in CLIPPING]
    return min(scales, key=lambda scale: (_error(values, scale, config), scale))


def _integers(
    matrices: np.ndarray,
    bias: np.ndarray | None,
    scale_in: float,
    scale_out: float,
    config: EngineConfig,
    core_range: tuple[int, int],
    where: str,
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Core and bias integers and the shift, with no overflow possible in any accumulator."""
    core_min, core_max = core_range
    most = float(np.abs(matrices).max()) * scale_out / scale_in
    shift = config.acc_width
    if most > 0:
        shift = min(shift, int(np.floor(np.log2((0.5 - core_min) / most))))
    while shift >= 0:
        core = np.rint(matrices * (scale_out * 2.0**shift / scale_in)).astype(np.int64)
        biases = None
        if bias is not None:
            biases = np.rint(bias * (scale_out * 2.0**shift)).astype(np.int64)
        largest = int(np.abs(core).sum(axis=-1).max()) * -config.data_min
        largest_bias = int(np.abs(biases).max()) if biases is not None else 0
        inside = core_min <= core.min() and core.max() <= core_max
        if inside and max(largest, largest_bias) + largest_bias < 1 << (config.acc_width - 1):
            return core, biases, shift
        shift -= 1
    raise FitError(
        where,
        f"has weights and biases that fit {core_max.bit_length() + 1}-bit cores and "
        f"{config.acc_width}-bit accumulators",
        f"a core of {most:.3g} in units of its scales",
        "normalise the weights, or use a larger data_width",
    )


def check_calibration(plan: Plan, calibration: np.ndarray) -> np.ndarray:
    """Calibration data as float64 ``(samples, inputs)``, of a model with states ``(samples, steps,
    inputs)``, or an InputError.
    """
    where = f"calibration data of model {plan.model.name!r}"
    data = np.asarray(calibration)
    if data.dtype.kind not in "fiu":
        raise InputError(where, "holds numbers", data.dtype, "convert it to float")
    inputs = plan.model.inputs
    if plan.states:
        if data.ndim != 3 or data.shape[2] != inputs or not data.size:
            raise InputError(
                where,
                f"has shape (sequences, steps, {inputs})",
                data.shape,
                "give some real sequences, as long as any that will come",
            )
    elif data.ndim < 2 or len(data) == 0 or data[0].size != inputs:
        raise InputError(
            where,
            f"has shape (samples, {plan.model.inputs})",
            data.shape,
            "give some real inputs, one row each",
        )
    if not np.isfinite(data).all():
        raise InputError(where, "holds finite numbers", "NaN or infinity", "clean the data")
    shape = data.shape if plan.states else (len(data), -1)
    return data.reshape(shape)[:CALIBRATION].astype(np.float64)


@dataclass(frozen=True)
class Scales:
    """What one unit of an integer is worth, throughout a plan.

    Members
    -------
    input_bits:
        The input's scale is 2 to this power.
    results:
        Scale of each stage's result, before ``stage_integers`` limits it.
    """

    input_bits: int
    results: tuple[float, ...]


def calibrate(plan: Plan, calibration: np.ndarray) -> Scales:
    """Scales from real inputs ``(samples, inputs)``, each with the least squared error.

    Raises
    ------
    InputError:
        unusable calibration data.
    """
    x = check_calibration(plan, calibration)
    if plan.is_graph:
        x = x[:GRAPH_CALIBRATION]
    given = plan.model.quantised
    input_bits = given[0].fraction_bits if given[0] else _fraction_bits(x, plan.config)
    results: list[float] = []
    # Scale of each of the plan's tensors; of those that are read by a stage that keeps scales, and
    # hold negative numbers, with room for a difference. And stages whose results are all 0.
    zero: set[int] = set()
    found = {plan.stages[0].reads[0]: 2.0**input_bits}
    for planned, _, live in float_stages(plan, x):
        if planned.fills:
            results.append(found[planned.writes])
            continue
        known = given[planned.layer + 1] if planned.ends_layer else None
        if known is not None:
            scale = 2.0**known.fraction_bits
        elif plan.networks[planned.layer].keeps_scale:
            scale = min(found[t] for t in planned.reads)
        else:
            scale = _scale(live.values, plan.config)
            compared = _compared(plan) & {*plan.wholes(planned.writes)}
            if compared and live.values.min() < 0:
                scale /= 2
        if not live.values.any():
            zero.add(len(results))
        found |= dict.fromkeys(plan.wholes(planned.writes), scale)
        results.append(scale)
    results = joined_scales(plan, input_bits, results, zero)
    return Scales(input_bits, tuple(product_scales(plan, input_bits, results)))


def _compared(plan: Plan) -> set[int]:
    """Tensors of which differences are taken that keep their scale."""
    return {
        tensor
        for planned in plan.stages
        if len(planned.reads) > 1 and plan.networks[planned.layer].keeps_scale
        for tensor in planned.reads
    }


@dataclass(frozen=True)
class StageIntegers:
    """A stage as the engine has it.

    Members
    -------
    core:
        In the shape of ``core_matrix``.
    biases:
        ``(outputs,)`` of a layer's last stage with a bias, else None.
    shift:
        Bits that requantisation drops.
    scale_in, scale_out:
        Scales of what the stage reads and of its result.
    """

    core: np.ndarray
    biases: np.ndarray | None
    shift: int
    scale_in: float
    scale_out: float


def stage_integers(
    plan: Plan, scales: Scales, core_bits: Mapping[str, int] | None = None
) -> list[StageIntegers]:
    """Every stage's integers; they follow from the plan's values and the scales alone.

    Arguments
    ---------
    core_bits:
        Width of the cores of some layers, by name; the others, and all activations, have the
        engine's ``data_width``.

    Raises
    ------
    InputError:
        ``core_bits`` names no layer, or a width that the engine does not have.
    FitError:
        weights that no shift can represent.
    """
    bits = _core_bits(plan, core_bits or {})
    while True:
        made = _stage_integers(plan, scales, bits)
        lower = uneven(plan, scales.results, [stage.scale_out for stage in made])
        if lower is None:
            return made
        scales = replace(scales, results=tuple(lower))


def _stage_integers(plan: Plan, scales: Scales, bits: Sequence[int]) -> list[StageIntegers]:
    """The same, for cores of these widths; parts of concatenations may come out with scales that
    differ.
    """
    config = plan.config
    made: list[StageIntegers] = []
    found = {plan.stages[0].reads[0]: 2.0**scales.input_bits}
    # States are read before they are written.
    found |= (kept := state_scales(plan, scales.results))
    exact = _powers(plan)
    for number, planned in enumerate(plan.stages):
        network = plan.networks[planned.layer]
        matrices = core_matrix(network, planned)
        if planned.fills:
            scale = found[planned.writes]
            made.append(StageIntegers(np.zeros((1, 1, 1), np.int64), None, 0, scale, scale))
            continue
        if planned.stage.products:
            shift, scale_out = product_shift(plan, planned, found, scales.results[number])
            nothing = np.zeros((1, 1, 0), np.int64)
            scale_in = found[planned.reads[0]]
            made.append(StageIntegers(nothing, None, shift, scale_in, scale_out))
            found |= dict.fromkeys(plan.wholes(planned.writes), scale_out)
            continue
        core_max = (1 << (bits[planned.layer] - 1)) - 1
        # Several sources are the columns of the core: each goes to the scale of the first.
        scale_in = found[planned.reads[0]]
        if len(planned.reads) > 1:
            matrices = matrices * (scale_in / np.array([found[t] for t in planned.reads]))
        # Outputs cannot be finer than the products that make them: with no shift, a core entry is
        # what it is.
        most = float(np.abs(matrices).max())
        scale_out = scales.results[number]
        known = plan.model.quantised[planned.layer + 1] if planned.ends_layer else None
        exactly = known is not None and known.exact
        # Chosen integers are symmetric; given ones may be the least there is.
        core_min = -core_max - int(exactly)
        if known is not None:
            scale_out = 2.0**known.fraction_bits
        elif network.keeps_scale:
            scale_out = scale_in
        elif most > 0:
            scale_out = min(scale_out, core_max / most * scale_in)
        if planned.writes in exact:
            scale_out = 2.0 ** np.floor(np.log2(scale_out))
        bias = network.bias if planned.ends_layer else None
        where = f"layer {network.name!r}, stage {number}"
        core, biases, shift = _integers(
            matrices, bias, scale_in, scale_out, config, (core_min, core_max), where
        )
        if exactly:
            check_exact(core, matrices * (scale_out * 2.0**shift / scale_in), config, where)
        made.append(StageIntegers(core, biases, shift, scale_in, scale_out))
        found |= dict.fromkeys(plan.wholes(planned.writes), scale_out)
    check_states(plan, kept, found)
    return made


def _powers(plan: Plan) -> set[int]:
    """Tensors whose scale is a power of two: the model's output, and what it has its scale from."""
    output = len(plan.tensors) - 1
    return next(group for group in scale_groups(plan) if output in group)


def _core_bits(plan: Plan, core_bits: Mapping[str, int]) -> list[int]:
    """Width of each layer's cores."""
    names = [network.name for network in plan.networks]
    for name, bits in core_bits.items():
        if name not in names:
            raise InputError(
                f"width of the cores of layer {name!r}",
                f"is given for one of {', '.join(names)}",
                name,
                "mend the name",
            )
        if not 2 <= bits <= plan.config.data_width:
            raise InputError(
                f"width of the cores of layer {name!r}",
                f"is 2 to the {plan.config.data_width} bits of engine {plan.config.name!r}",
                bits,
                "choose another width, or another engine",
            )
    return [core_bits.get(name, plan.config.data_width) for name in names]


def quantise(
    plan: Plan,
    calibration: np.ndarray,
    *,
    scales: Scales | None = None,
    core_bits: Mapping[str, int] | None = None,
) -> Artefact:
    """Quantise a planned model and encode its program.

    Arguments
    ---------
    calibration:
        ``(samples, inputs)``: real inputs, from which every scale is chosen.
    scales:
        Scales chosen before, in place of those.
    core_bits:
        Mixed widths: see ``stage_integers``.

    Returns
    -------
    The artefact, still without self-test vectors.

    Raises
    ------
    InputError, FitError:
        unusable calibration data; weights that no shift can represent.
    """
    config = plan.config
    check_ranges(plan.model, config)
    scales = scales or calibrate(plan, calibration)
    made = stage_integers(plan, scales, core_bits)
    biases = np.zeros((plan.bias_vectors, config.lanes), np.int64)
    for planned, stage in zip(plan.stages, made, strict=True):
        if stage.biases is not None:
            place_bias(biases, stage.biases, plan.networks[planned.layer], planned, plan)
    output_bits = round(np.log2(made[-1].scale_out))
    steps = np.asarray(calibration).shape[1] if plan.states else 0
    cores = np.zeros((plan.core_vectors, config.rows), np.int64)
    for planned, stage in zip(plan.stages, made, strict=True):
        if planned.stage.products:
            continue
        image = core_image(stage.core, config, planned.stage.fold)
        cores[planned.stage.core_base :][: len(image)] = image
    shifts = [stage.shift for stage in made]
    return assemble(plan, shifts, cores, biases, scales.input_bits, output_bits, steps=steps)


def assemble(
    plan: Plan,
    shifts: Sequence[int],
    cores: np.ndarray,
    biases: np.ndarray,
    input_bits: int,
    output_bits: int,
    *,
    steps: int = 0,
) -> Artefact:
    """The artefact of a plan with its integers.

    Arguments
    ---------
    shifts:
        Of each step of ``plan.stages``.
    input_bits, output_bits:
        Fraction bits of the model's input and output.
    steps:
        Of the longest sequence, where the model has states.
    """
    config = plan.config
    buffers = tuple(
        replace(
            buffer,
            input=replace(buffer.input, fraction_bits=input_bits),
            output=replace(buffer.output, fraction_bits=output_bits),
        )
        for buffer in plan.buffers
    )
    programs = [
        encode([replace(s, shift=shifts[n]) for n, s in own], config)
        for number in range(len(buffers))
        for own in plan.pass_programs(number)
    ]
    layers = tuple(
        LayerReport(
            name=layer.name,
            format=layer.format,
            modes_in=layer.modes_in,
            modes_out=layer.modes_out,
            ranks=layer.ranks,
            dense_weights=layer.dense_weights,
            core_weights=layer.core_weights,
            multiplications=plan.layer_multiplications(number),
            cycles=plan.layer_cycles(number),
            utilisation=plan.layer_utilisation(number),
            plan=plan.layer_text(number),
        )
        for number, layer in enumerate(plan.model.layers)
    )
    described = [
        {
            "layer": plan.networks[stage.layer].name,
            "cores": list(plan.stages[number].step.group),
            "slices": plan.stages[number].step.slices,
            "shared": stage.shared,
            "rows": stage.rows,
            "k": stage.k,
            "columns": stage.columns,
            "cycles": cycles.total,
            "busy": cycles.busy,
            "stall_drain": cycles.stall_drain,
            "stall_fetch": cycles.stall_fetch,
            "flush": cycles.flush,
        }
        for (number, stage), cycles in zip(plan.program, plan.cycles, strict=True)
    ]
    nothing = np.zeros((0, 0), np.int64)
    return Artefact(
        name=plan.model.name,
        config=config,
        program=np.concatenate(programs),
        cores=cores,
        biases=biases,
        loads=plan.loads,
        buffers=buffers,
        batch=plan.batch,
        cycles=plan.total.total,
        layers=layers,
        test_input=nothing,
        test_output=nothing,
        states=plan.kept,
        steps=steps,
        meta={
            "stages": described,
            "bound": plan.bound,
            "proven": plan.proven,
            "minimise": plan.minimise,
            "work_bytes_peak": plan.work_bytes_peak,
            "work_bytes_double": plan.work_bytes_double,
            "core_bytes": plan.core_bytes,
        },
    )
