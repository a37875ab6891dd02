"""ONNX operators on integers: their results are the engine's own, to the last bit.

A scale that is left over after a product must be a power of two, as the engine requantises by a
shift. Zero points of what a product or a convolution reads go into its bias; those of results must
be 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drawbar.sw.compress.lowered import Value
from drawbar.sw.onnx.operands import Handler, OnnxCall, Operand, bits_of, is_power, pin
from drawbar.sw.onnx.operators import FLOAT, convolve, product

INT32 = np.dtype(np.int32)
FIX = "quantise with scales that are powers of two, or compile the float model"


def _number(call: OnnxCall, position: int, what: str, default: float | None = None) -> float:
    """A scale or zero point of a whole tensor."""
    if default is not None and not call.given(position):
        return default
    values = call.numbers(position, what)
    if values.size != 1:
        raise call.refuse(
            f"has one {what} for the whole tensor", values.shape, "quantise by tensor"
        )
    return float(values.reshape(-1)[0])


def _symmetric(call: OnnxCall, position: int, what: str) -> None:
    zero = _number(call, position, what, 0.0)
    if zero:
        raise call.refuse(f"has a {what} of 0", int(zero), "quantise symmetrically")


def _shifted(call: OnnxCall, position: int, zero: int | None) -> Operand:
    """An integer operand with its zero point."""
    operand = call.plain(position)
    if operand.dtype.kind not in "iu":
        raise call.refuse("reads integers", operand.dtype, "quantise before it")
    found = 0.0 if zero is None else _number(call, zero, "zero point of the input", 0.0)
    return replace(operand, zero=round(found / operand.unit))


def _weights(call: OnnxCall, position: int, zero: int, axis: int) -> np.ndarray:
    """Constant integers less their zero point, which is one or one for each output."""
    values = call.numbers(position, "second operand")
    zeros = call.numbers(zero, "zero point") if call.given(zero) else np.zeros(1)
    return values - _by_output(call, zeros, values, axis)


def _by_output(call: OnnxCall, numbers: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    if numbers.size == 1:
        return numbers.reshape((1,) * values.ndim)
    if numbers.size != values.shape[axis]:
        raise call.refuse(
            "has one number for each output", f"{numbers.size} numbers", "make the sizes agree"
        )
    shape = [1] * values.ndim
    shape[axis] = -1
    return numbers.reshape(shape)


def _ratio(call: OnnxCall, scales: tuple[int, int, int]) -> np.ndarray:
    """What is left of the scales of both operands over that of the result: powers of two."""
    first, result = (_number(call, n, "scale") for n in (scales[0], scales[2]))
    ratio = first * call.numbers(scales[1], "scale").reshape(-1) / result
    if not is_power(ratio).all():
        odd = ratio[~is_power(ratio)][0]
        raise call.refuse(
            "has scales whose product over the result's scale is a power of two", f"{odd:.9g}", FIX
        )
    return ratio


def _qlinear_matmul(call: OnnxCall) -> Operand:
    ratio = _ratio(call, (1, 4, 6))
    _symmetric(call, 7, "zero point of the result")
    operand = _shifted(call, 0, 2)
    weight = _weights(call, 3, 5, -1)
    weight = (weight * _by_output(call, ratio, weight, -1)).T
    value = product(call, operand, weight, None, exact=True)
    return _result(call, value, 7)


def _qlinear_conv(call: OnnxCall) -> Operand:
    ratio = _ratio(call, (1, 4, 6))
    _symmetric(call, 7, "zero point of the result")
    operand = _shifted(call, 0, 2)
    weight = _weights(call, 3, 5, 0)
    weight = weight * _by_output(call, ratio, weight, 0)
    bias = call.numbers(8, "bias") * ratio if call.given(8) else None
    return _result(call, convolve(call, operand, weight, bias, exact=True), 7)


def _result(call: OnnxCall, value: Value, zero: int) -> Operand:
    dtype = call.constant(zero, "zero point").values.dtype
    return pin(call.importing, call, Operand(value, dtype), 1.0, dtype)


def _matmul_integer(call: OnnxCall) -> Operand:
    operand, weight = _shifted(call, 0, 2), _weights(call, 1, 3, -1)
    return Operand(product(call, operand, weight.T, None, exact=True), INT32)


def _conv_integer(call: OnnxCall) -> Operand:
    operand, weight = _shifted(call, 0, 2), _weights(call, 1, 3, 0)
    return Operand(convolve(call, operand, weight, None, exact=True), INT32)


def _quantise(call: OnnxCall) -> Operand:
    operand, scale = call.plain(0), _number(call, 1, "scale")
    _symmetric(call, 2, "zero point")
    dtype = np.dtype(np.uint8)
    if call.given(2):
        dtype = call.constant(2, "zero point").values.dtype
    elif call.attribute("output_dtype", 0):
        # Numbers of TensorProto.
        known = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16}
        dtype = np.dtype(known.get(call.attribute("output_dtype"), np.float32))
    if dtype.kind not in "iu":
        found = call.attribute("output_dtype", 0) or dtype
        raise call.refuse("quantises to int8 or int16", f"type {found}", "use one of these")
    bits_of(call, scale, "a scale")
    return pin(call.importing, call, operand, scale, dtype)


def _dequantise(call: OnnxCall) -> Operand:
    operand, scale = _shifted(call, 0, 2), _number(call, 1, "scale")
    return replace(operand, unit=operand.unit * scale, dtype=FLOAT)


QUANTISED: dict[str, Handler] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantise,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantise,
}
