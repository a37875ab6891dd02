"""ONNX operators that say which elements there are, and in which shape."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from drawbar.sw.compress.lowered import Value
from drawbar.sw.compress.lowered_parts import concatenate, flattened, pad_channels
from drawbar.sw.onnx.operands import Handler, OnnxCall, Operand, rescaled


def _flatten(call: OnnxCall) -> Operand:
    if call.attribute("axis", 1) != 1:
        raise call.refuse(
            "flattens each sample whole (axis=1)", f"axis={call.attribute('axis')}", "use axis=1"
        )
    operand = call.operand(0)
    return replace(operand, value=flattened(call, operand.value))


def _reshape(call: OnnxCall) -> Operand:
    operand = call.operand(0)
    shape: tuple[int, ...] = operand.value.shape or ()
    sizes = [int(n) for n in call.parameter("shape", 1, ())]
    batch, *own = sizes or [0]
    if not call.attribute("allowzero", 0):
        own = [shape[n] if size == 0 and n < len(shape) else size for n, size in enumerate(own)]
    if own.count(-1) == 1 and batch != -1:
        own[own.index(-1)] = prod(shape) // max(1, prod(n for n in own if n != -1))
    known = call.importing.file.input.batch or 1
    if batch in (-1, 0, 1, known) and prod(own) == prod(shape):
        if len(own) == 1:
            return replace(operand, value=flattened(call, operand.value))
        # An image of one pixel is a vector here.
        if tuple(own) == shape or (len(shape) == 1 and own == [shape[0], 1, 1]):
            return operand
        if operand.value.tensor == 0 and len(own) == 3 and call.importing.reads_input_once:
            call.graph.shapes[0] = tuple(own)
            return replace(operand, value=Value(0, tuple(own)))
    raise call.refuse(
        "flattens each sample whole, or makes an image of the model's input",
        f"{shape} to {tuple(sizes)}",
        "flatten from axis 1 on",
    )


def _squeeze(call: OnnxCall) -> Operand:
    operand = call.operand(0)
    if len(operand.value.shape or ()) != 1 or 0 in call.parameter("axes", 1, (0,)):
        raise call.refuse(
            "takes height and width of 1 away", operand.value.shape, "name the axes, not the batch"
        )
    return operand


def _concat(call: OnnxCall) -> Operand:
    operands = [call.plain(n) for n in range(len(call.node.inputs))]
    unit = operands[0].unit
    values = []
    for number, operand in enumerate(operands):
        # Each in the unit of the first.
        node = replace(call, name=f"{call.name}.{number}")
        part = replace(operand, unit=operand.unit / unit)
        values.append(rescaled(call.importing, node, part))
    value = concatenate(call, values, int(call.attribute("axis")))
    return Operand(value, operands[0].dtype, unit)


def _slice(call: OnnxCall) -> Operand:
    operand = call.plain(0)
    value = operand.value
    shape = value.shape or ()
    starts, ends = call.parameter("starts", 1), call.parameter("ends", 2)
    axes = call.parameter("axes", 3, list(range(len(starts))))
    steps = call.parameter("steps", 4, [1] * len(starts))
    cuts = [slice(None)] * (1 + len(shape))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    if cuts[0] != slice(None) and cuts[0].indices(1 << 40) != (0, 1 << 40, 1):
        raise call.refuse("keeps all samples", cuts[0], "slice the other axes alone")
    places = [range(size)[cut] for size, cut in zip(shape, cuts[1:], strict=True)]
    if len(shape) != 3 or any(len(p) == 0 or p.step < 1 for p in places):
        raise call.refuse(
            "keeps some elements of an image, in order", f"{cuts[1:]} of {shape}", "mend the slice"
        )
    # A slice of a slice is one of the whole.
    starts, steps = value.starts or (0,) * len(shape), value.steps or (1,) * len(shape)
    part = Value(
        value.tensor,
        tuple(len(p) for p in places),
        tuple(a + s * p.start for a, s, p in zip(starts, steps, places, strict=True)),
        tuple(s * p.step for s, p in zip(steps, places, strict=True)),
    )
    return replace(operand, value=part)


def _pad(call: OnnxCall) -> Operand:
    operand = call.plain(0)
    pads, fill = call.parameter("pads", 1), call.parameter("value", 2, 0)
    mode, rank = call.attribute("mode", "constant"), 1 + len(operand.value.shape or ())
    axes = call.parameter("axes", 3, list(range(rank)))
    pairs = zip(pads[: len(axes)], pads[len(axes) :], strict=True)
    sides = dict(zip([n % rank for n in axes], pairs, strict=True))
    before, after = sides.pop(1, (0, 0))
    if (
        min(before, after) < 0
        or mode != "constant"
        or fill not in (0, None)
        or any(map(any, sides.values()))
    ):
        raise call.refuse(
            "adds channels of zeros",
            f"pads={pads}, mode={mode!r}, value {fill}",
            "pad the images in the convolution that follows",
        )
    return replace(operand, value=pad_channels(call, operand.value, before, after))


SHAPES: dict[str, Handler] = {
    "Concat": _concat,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
}
