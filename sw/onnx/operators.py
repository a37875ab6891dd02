"""What each ONNX operator becomes in a graph of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from drawbar.gen.formats import dense_network
from drawbar.gen.formats.convolution import dense_convolution
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.lowered import Value
from drawbar.sw.compress.lowered_parts import (
    Pair,
    add,
    affine,
    average_image,
    average_pool,
    convolution,
    linear,
    max_pool,
)
from drawbar.sw.onnx.operands import Handler, OnnxCall, Operand, is_power

FLOAT = np.dtype(np.float32)


# -- products and convolutions ---------------------------------------------------------------------


def product(
    call: OnnxCall,
    operand: Operand,
    weight: np.ndarray,
    bias: np.ndarray | None,
    *,
    exact: bool,
) -> Value:
    """``weight (outputs, inputs)`` by an operand, zero point and all."""
    if weight.ndim != 2 or 0 in weight.shape:
        raise call.refuse(
            "multiplies by a matrix", f"weights of shape {weight.shape}", "use two dimensions"
        )
    value = operand.value
    found = None if value.shape is None else prod(value.shape)
    if found != weight.shape[1] or (value.shape is not None and len(value.shape) == 2):
        raise call.refuse(
            f"multiplies feature vectors of {weight.shape[1]}, batch first",
            f"shape (batch, {', '.join(str(n) for n in value.shape or ())})",
            "flatten before it, or make the sizes agree",
        )
    if operand.zero:
        shift = -operand.zero * operand.unit * weight.sum(axis=1)
        bias = shift if bias is None else bias + shift
    network = dense_network(call.name, weight * operand.unit, bias=bias)
    result = linear(call, value, network)
    if exact and is_power(operand.unit).all():
        call.importing.exact.add(result.tensor - 1)
    return result


def _gemm(call: OnnxCall) -> Operand:
    if call.attribute("transA", 0):
        raise call.refuse("has its samples in rows", "transA=1", "export it with transA=0")
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    weight = call.numbers(1, "second operand")
    weight = alpha * (weight if call.attribute("transB", 0) else weight.T)
    bias = None
    if call.given(2):
        bias = beta * _spread(call, call.numbers(2, "third operand"), (len(weight),))
    exact = call.constant(1, "weight").exact and alpha == 1
    return Operand(product(call, call.operand(0), weight, bias, exact=exact), FLOAT)


def _matmul(call: OnnxCall) -> Operand:
    weight = call.numbers(1, "second operand")
    exact = call.constant(1, "weight").exact
    return Operand(product(call, call.operand(0), weight.T, None, exact=exact), FLOAT)


def convolve(
    call: OnnxCall,
    operand: Operand,
    weight: np.ndarray,
    bias: np.ndarray | None,
    *,
    exact: bool,
) -> Value:
    """A convolution of an operand with ``weight (outputs, inputs, height, width)``; outside an
    image is its zero point.
    """
    if weight.ndim != 4 or 0 in weight.shape:
        raise call.refuse(
            "is a convolution of images, with four-dimensional weights", weight.shape, "use Conv2d"
        )
    if call.attribute("group", 1) != 1:
        raise call.refuse(
            "is a convolution with group=1",
            f"group={call.attribute('group')}",
            "use convolutions without groups",
        )
    kernel: Pair = (weight.shape[2], weight.shape[3])
    if tuple(call.attribute("kernel_shape", kernel)) != kernel:
        raise call.refuse(
            f"has kernel_shape {kernel}, as its weights", call.attribute("kernel_shape"), "mend it"
        )
    stride, dilation = _pair(call, "strides"), _pair(call, "dilations")
    value = operand.value
    if value.shape is not None and len(value.shape) == 1 and kernel == (1, 1):
        # What pooling has left one pixel of.
        return product(call, operand, weight[:, :, 0, 0], bias, exact=exact)

    def make(shape: Pair) -> ContractionNetwork:
        before, after = _padding(call, shape, kernel, stride, dilation)
        network = dense_convolution(
            call.name,
            weight * operand.unit,
            shape=shape,
            stride=stride,
            padding=before,
            after=after,
            dilation=dilation,
            bias=bias,
        )
        if not operand.zero or min(network.modes_out) < 1:
            return network
        # Where the window reaches beyond the edge, fewer zero points are in the sum.
        ones = np.full((1, network.inputs), float(operand.zero))
        part = replace(network, bias=None).forward(ones)[0]
        if before == after == (0, 0):
            kept = part.reshape(len(weight), -1)[:, 0]
            return replace(network, bias=-kept if bias is None else bias - kept)
        whole = network.spread_bias() - part
        return replace(network, bias=whole, bias_over=None)

    result = convolution(call, value, weight.shape[1], make)
    if exact and is_power(operand.unit).all():
        call.importing.exact.add(result.tensor - 1)
    return result


def _conv(call: OnnxCall) -> Operand:
    bias = call.numbers(2, "bias") if call.given(2) else None
    exact = call.constant(1, "kernel").exact
    weight = call.numbers(1, "kernel")
    return Operand(convolve(call, call.operand(0), weight, bias, exact=exact), FLOAT)


def _pair(call: OnnxCall, name: str) -> Pair:
    values = call.attribute(name, (1, 1))
    if len(values) != 2 or min(values) < 1:
        raise call.refuse(
            "is of images, by one element or more", f"{name}={tuple(values)}", "use two dimensions"
        )
    return values[0], values[1]


def _padding(
    call: OnnxCall, shape: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """Zeros above and left, and below and right."""
    auto = call.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = call.attribute("pads", (0, 0, 0, 0))
        if len(pads) != 4 or min(pads) < 0:
            raise call.refuse(
                "has a padding of 0 or more on each of four sides", f"pads={tuple(pads)}", "mend it"
            )
        return (pads[0], pads[1]), (pads[2], pads[3])
    if auto == "VALID":
        return (0, 0), (0, 0)
    less, more = [], []
    for n, k, s, d in zip(shape, kernel, stride, dilation, strict=True):
        needed = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        less.append(needed // 2)
        more.append(needed - needed // 2)
    before, after = (less, more) if auto == "SAME_UPPER" else (more, less)
    return (before[0], before[1]), (after[0], after[1])


# -- element by element ----------------------------------------------------------------------------


def _spread(call: OnnxCall, values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A constant that is one number, or one for each channel or feature, as a vector of these."""
    if values.size == 1:
        return np.full(shape[0], float(values.reshape(-1)[0]))
    own = values.shape
    if len(own) == len(shape) + 1 and own[0] == 1:
        own = own[1:]
    if own != (shape[0], *(1,) * (len(shape) - 1)):
        raise call.refuse(
            f"has one number, or one for each of {shape[0]} channels",
            f"a constant of shape {values.shape}",
            "reshape it so that it is broadcast along the channels alone",
        )
    return values.reshape(-1)


def _affine(call: OnnxCall, operand: Operand, factor: np.ndarray, offset: np.ndarray) -> Operand:
    """Each channel times a factor, plus an offset."""
    given, offset = operand.value, offset / operand.unit
    if given.shape is not None and len(given.shape) == 3:
        value = affine(call, given, factor, offset)
    else:
        value = call.graph.scale(given, factor, offset, call.where)
    if (factor != 1).any():
        call.importing.exact.discard(value.tensor - 1)
    return Operand(value, FLOAT, operand.unit)


def _constant_side(call: OnnxCall) -> tuple[int, int] | None:
    """Positions of the operand and of the constant; None where both depend on the input."""
    known = [name in call.importing.constants for name in call.node.inputs]
    return None if not any(known) else (known.index(False), known.index(True))


def _sum(call: OnnxCall, sign: float) -> Operand:
    sides = _constant_side(call)
    if sides is None:
        first, second = call.plain(0), call.plain(1)
        weights = (first.unit, sign * second.unit)
        value = add(call, [first.value, second.value], weights)
        if is_power(np.abs(weights)).all():
            call.importing.exact.add(value.tensor - 1)
        return Operand(value, FLOAT)
    operand = call.plain(sides[0])
    shape = operand.value.shape or (0,)
    offset = _spread(call, call.numbers(sides[1], "operand"), shape)
    factor = np.ones(shape[0])
    if sign < 0:
        factor, offset = (factor, -offset) if sides[0] == 0 else (-factor, offset)
    return _affine(call, operand, factor, offset)


def _add(call: OnnxCall) -> Operand:
    return _sum(call, 1.0)


def _sub(call: OnnxCall) -> Operand:
    return _sum(call, -1.0)


def _mul(call: OnnxCall) -> Operand:
    sides = _constant_side(call)
    divides = call.node.kind == "Div"
    if sides is None or (divides and sides[0] == 1):
        raise call.refuse(
            "multiplies or divides by a constant",
            "two tensors that depend on the model's input",
            "take it out of what is compiled",
        )
    operand = call.plain(sides[0])
    shape = operand.value.shape or (0,)
    factor = _spread(call, call.numbers(sides[1], "factor"), shape)
    if divides and not factor.all():
        raise call.refuse("divides by numbers other than 0", "0", "mend the weights")
    factor = 1 / factor if divides else factor
    return _affine(call, operand, factor, np.zeros(shape[0]))


def _batch_norm(call: OnnxCall) -> Operand:
    if call.attribute("training_mode", 0):
        raise call.refuse("is at inference", "training_mode=1", "export it after model.eval()")
    weight, bias, mean, variance = (
        call.numbers(n, what) for n, what in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    factor = weight / np.sqrt(variance + call.attribute("epsilon", 1e-5))
    return _affine(call, call.plain(0), factor, bias - mean * factor)


def _relu(call: OnnxCall) -> Operand:
    operand = call.plain(0)
    return replace(operand, value=call.graph.activate(operand.value, call.where, call.name))


def _clip(call: OnnxCall) -> Operand:
    low, high = call.parameter("min", 1), call.parameter("max", 2)
    if low != 0 or (high is not None and np.isfinite(high) and high < 3e38):
        raise call.refuse("clips to 0 and more, as ReLU does", f"{low} to {high}", "use ReLU")
    return _relu(call)


def _nothing(call: OnnxCall) -> Operand:
    return call.operand(0)


def _cast(call: OnnxCall) -> Operand:
    operand = call.operand(0)
    target = call.attribute("to")
    # Numbers of TensorProto: float, float16, double, bfloat16.
    if target not in (1, 10, 11, 16):
        raise call.refuse("casts to floating point", f"type {target}", "use QuantizeLinear")
    return replace(operand, dtype=FLOAT)


# -- pooling ---------------------------------------------------------------------------------------


def _window(call: OnnxCall) -> tuple[Pair, Pair, Pair, Pair]:
    """Kernel, stride and padding of a pooling: above and left, and below and right."""
    kernel, stride = _pair(call, "kernel_shape"), _pair(call, "strides")
    dilation, ceil = _pair(call, "dilations"), call.attribute("ceil_mode", 0)
    pads = tuple(call.attribute("pads", (0, 0, 0, 0)))
    auto = call.attribute("auto_pad", "NOTSET")
    _, (_, *shape) = call.image(call.plain(0).value)
    # Rounding up makes no difference where the windows fill the image.
    spare = [(n - k) % s for n, k, s in zip(shape, kernel, stride, strict=True)]
    odd = dilation != (1, 1) or (ceil and any(spare)) or auto not in ("NOTSET", "VALID")
    if odd or len(pads) != 4 or min(pads) < 0:
        raise call.refuse(
            "pools windows of neighbours, with zeros of a given number around the image",
            f"pads={pads}, auto_pad={auto}, dilations={dilation}, ceil_mode={ceil}",
            "pool whole windows",
        )
    return kernel, stride, (pads[0], pads[1]), (pads[2], pads[3])


def _max_pool(call: OnnxCall) -> Operand:
    operand = call.plain(0)
    return replace(operand, value=max_pool(call, operand.value, *_window(call)))


def _average_pool(call: OnnxCall) -> Operand:
    operand = call.plain(0)
    kernel, stride, before, after = _window(call)
    counted = before == (0, 0) or bool(call.attribute("count_include_pad", 0))
    if before != after or not counted:
        raise call.refuse(
            "averages whole windows, or with as many zeros on all sides, which count",
            f"pads {before} and {after}, count_include_pad="
            f"{call.attribute('count_include_pad', 0)}",
            "pool whole windows",
        )
    value = average_pool(call, operand.value, kernel, stride, before)
    return replace(operand, value=value, dtype=FLOAT)


def _average_image(call: OnnxCall) -> Operand:
    operand = call.plain(0)
    return replace(operand, value=average_image(call, operand.value), dtype=FLOAT)


def _reduce_mean(call: OnnxCall) -> Operand:
    axes = call.parameter("axes", 1, ())
    if sorted(n % 4 for n in axes) != [2, 3]:
        raise call.refuse("averages height and width", f"axes={axes}", "use axes 2 and 3")
    return _average_image(call)


OPERATORS: dict[str, Handler] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": _conv,
    "Div": _mul,
    "Dropout": _nothing,
    "Gemm": _gemm,
    "GlobalAveragePool": _average_image,
    "Identity": _nothing,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Sub": _sub,
}
