"""What each PyTorch module and function becomes in a graph of layers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from drawbar.gen.formats import dense_network
from drawbar.gen.formats.convolution import dense_convolution
from drawbar.gen.formats.tables import KNOTS, knots_network, lookup_network, tabulate
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.factorised import (
    FactorisedConv2d,
    FactorisedLinear,
    as_array,
    convolution_of,
)
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.layers import TTLinear, geometry
from drawbar.sw.compress.lowered import Value
from drawbar.sw.compress.lowered_parts import (
    Node,
    Pair,
    add,
    affine,
    average_image,
    average_pool,
    concatenate,
    convolution,
    flattened,
    linear,
    max_pool,
    pad_channels,
)


@dataclass(frozen=True)
class Call(Node):
    """A node with what it is given."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def given(self, position: int, name: str, default: Any = None) -> Any:
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def value(self) -> Value:
        """The tensor that it is given."""
        value = self.given(0, "input")
        if not isinstance(value, Value):
            raise self.refuse("is of a tensor of the model", value, "give it one")
        return value


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


# -- layers ----------------------------------------------------------------------------------------


def _linear(call: Call, module: nn.Module) -> Value:
    if isinstance(module, FactorisedLinear):
        network = get_format(module.spec.format).network(module, call.name)
    else:
        assert isinstance(module, nn.Linear)
        bias = None if module.bias is None else as_array(call.where, module.bias)
        network = dense_network(call.name, as_array(call.where, module.weight), bias=bias)
    return linear(call, call.value, network)


def _convolution(call: Call, module: nn.Module) -> Value:
    assert isinstance(module, (nn.Conv2d, FactorisedConv2d))

    def make(shape: Pair) -> ContractionNetwork:
        if isinstance(module, FactorisedConv2d):
            return convolution_of(module, call.name, shape)
        return dense_convolution(
            call.name,
            as_array(call.where, module.weight),
            shape=shape,
            bias=None if module.bias is None else as_array(call.where, module.bias),
            **geometry(module, call.name),
        )

    return convolution(call, call.value, module.in_channels, make)


def _batch_norm(call: Call, module: nn.Module) -> Value:
    assert isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
    if module.running_mean is None or module.running_var is None:
        raise call.refuse(
            "has running statistics", "track_running_stats=False", "train it with them"
        )
    mean, variance = (as_array(call.where, t) for t in (module.running_mean, module.running_var))
    factor = 1 / np.sqrt(variance + module.eps)
    offset = 0.0
    if module.affine:
        factor = factor * as_array(call.where, module.weight)
        offset = as_array(call.where, module.bias)
    value = call.value
    if isinstance(module, nn.BatchNorm1d):
        return call.graph.scale(value, factor, offset - mean * factor, call.where)
    return affine(call, value, factor, offset - mean * factor)


# -- element by element ----------------------------------------------------------------------------


def _relu(call: Call, module: nn.Module | None = None) -> Value:
    return call.graph.activate(call.value, call.where, call.name)


def _tabulated(function: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Value]:
    """A function of each element, as a table with interpolation."""

    def lower(call: Call, module: nn.Module | None = None) -> Value:
        value = call.value
        if value.shape is None or len(value.shape) != 1:
            raise call.refuse(
                "is of a feature vector of a known size",
                "no shape" if value.shape is None else value.shape,
                "put it behind a linear layer",
            )
        table = tabulate(function, KNOTS)
        (size,) = value.shape
        knots = knots_network(f"{call.name}.knots", table, size)
        risen = call.graph.add(knots, [value], (knots.outputs,))
        return call.graph.add(lookup_network(call.name, table, size), [risen], (size,))

    return lower


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2


_TANH, _SIGMOID = _tabulated(np.tanh), _tabulated(_sigmoid)


def _nothing(call: Call, module: nn.Module | None = None) -> Value:
    return call.value


def _add(call: Call) -> Value:
    first, second = call.given(0, "input"), call.given(1, "other")
    if isinstance(first, Value) and isinstance(second, Value):
        return add(call, [first, second])
    numbers = _channel_numbers(call)
    return affine(call, call.value, np.ones_like(numbers), numbers)


def _channel_numbers(call: Call) -> np.ndarray:
    """The other operand: a number for each channel of an image, or one for all."""
    other = call.given(1, "other")
    value = call.value
    if isinstance(other, Value) or value.shape is None or len(value.shape) != 3:
        raise call.refuse(
            "combines an image and a number for each channel, or adds two tensors",
            other,
            "write it in these",
        )
    channels = value.shape[0]
    numbers = np.asarray(torch.as_tensor(other).detach().cpu().double())
    if numbers.size == 1:
        return np.full(channels, float(numbers))
    if numbers.shape[-3:] != (channels, 1, 1) or numbers.size != channels:
        raise call.refuse(
            f"has a number for each of {channels} channels", numbers.shape, "shape it (-1, 1, 1)"
        )
    return numbers.reshape(channels)


def _subtract(call: Call) -> Value:
    numbers = _channel_numbers(call)
    return affine(call, call.value, np.ones_like(numbers), -numbers)


def _multiply(call: Call) -> Value:
    numbers = _channel_numbers(call)
    return affine(call, call.value, numbers, np.zeros_like(numbers))


def _divide(call: Call) -> Value:
    numbers = _channel_numbers(call)
    return affine(call, call.value, 1 / numbers, np.zeros_like(numbers))


# -- pooling ---------------------------------------------------------------------------------------


def _max_pool(call: Call, module: nn.Module | None = None) -> Value:
    if isinstance(module, nn.MaxPool2d):
        kernel, stride, padding = module.kernel_size, module.stride, module.padding
        dilation, ceil = module.dilation, module.ceil_mode
    else:
        kernel, stride = call.given(1, "kernel_size"), call.given(2, "stride")
        padding, dilation = call.given(3, "padding", 0), call.given(4, "dilation", 1)
        ceil = call.given(5, "ceil_mode", False)
    kernel = _pair(kernel)
    stride = kernel if stride is None else _pair(stride)
    if _pair(dilation) != (1, 1) or ceil:
        raise call.refuse(
            "has no dilation and no ceil_mode",
            f"dilation={dilation}, ceil_mode={ceil}",
            "pool whole windows",
        )
    return max_pool(call, call.value, kernel, stride, _pair(padding))


def _average_pool(call: Call, module: nn.Module | None = None) -> Value:
    if isinstance(module, nn.AvgPool2d):
        kernel, stride, padding = module.kernel_size, module.stride, module.padding
        odd = (module.ceil_mode, not module.count_include_pad, module.divisor_override)
    else:
        kernel, stride = call.given(1, "kernel_size"), call.given(2, "stride")
        padding = call.given(3, "padding", 0)
        odd = (
            call.given(4, "ceil_mode", False),
            not call.given(5, "count_include_pad", True),
            call.given(6, "divisor_override"),
        )
    kernel, padding = _pair(kernel), _pair(padding)
    if odd[0] or (odd[1] and padding != (0, 0)) or odd[2]:
        raise call.refuse(
            "averages whole windows, zeros included",
            "ceil_mode, count_include_pad=False or divisor_override",
            "leave these as they are by default",
        )
    stride = kernel if stride is None else _pair(stride)
    return average_pool(call, call.value, kernel, stride, padding)


def _adaptive(call: Call, module: nn.Module | None = None) -> Value:
    size = module.output_size if isinstance(module, nn.AdaptiveAvgPool2d) else call.args[1]
    if size not in (1, (1, 1)):
        raise call.refuse("averages the whole image", f"output size {size}", "use size 1")
    return average_image(call, call.value)


def _mean(call: Call) -> Value:
    axes = call.given(1, "dim")
    if tuple(sorted(n % 4 for n in axes or ())) != (2, 3):
        raise call.refuse("averages height and width", f"dim={axes}", "use dim=(2, 3)")
    return average_image(call, call.value)


# -- shapes ----------------------------------------------------------------------------------------


def _flatten(call: Call, module: nn.Module | None = None) -> Value:
    if isinstance(module, nn.Flatten):
        start, end = module.start_dim, module.end_dim
    else:
        start, end = call.given(1, "start_dim", 0), call.given(2, "end_dim", -1)
    if (start, end) != (1, -1):
        raise call.refuse(
            "flattens each sample whole (start_dim=1, end_dim=-1)",
            f"start_dim={start}, end_dim={end}",
            "use nn.Flatten()",
        )
    return flattened(call, call.value)


def _view(call: Call) -> Value:
    value = call.value
    sizes = call.args[1] if isinstance(call.args[1], (tuple, list)) else call.args[1:]
    if len(sizes) == 2 and sizes[1] in (-1, prod(value.shape or (0,))):
        return flattened(call, value)
    if len(sizes) == 4 and sizes[0] == -1 and not value.tensor and -1 not in sizes[1:]:
        return _image_of(call, tuple(sizes[1:]))
    raise call.refuse(
        "flattens each sample whole, or makes an image of the input",
        sizes,
        "use torch.flatten(x, 1)",
    )


def _size(call: Call) -> Any:
    if call.given(1, "dim") == 0:
        return -1
    raise call.refuse("asks for the batch's size alone", call.args[1:], "write the numbers")


def _unflatten(call: Call, module: nn.Module) -> Value:
    assert isinstance(module, nn.Unflatten)
    value = call.value
    shape = tuple(int(n) for n in module.unflattened_size)
    if module.dim not in (1, -1) or len(shape) != 3 or value.tensor or -1 in shape:
        raise call.refuse(
            "makes an image (channels, height, width) of the model's input",
            f"dim={module.dim}, {shape}",
            "unflatten the input alone",
        )
    return _image_of(call, shape)


def _image_of(call: Call, shape: tuple[int, ...]) -> Value:
    """The model's input as an image."""
    value = call.value
    if value.shape is not None and prod(value.shape) != prod(shape):
        raise call.refuse(f"makes {shape} of the input", value.shape, "make the sizes agree")
    call.graph.shapes[0] = shape
    return Value(0, shape)


def _item(call: Call) -> Any:
    value, key = call.args
    if not isinstance(value, Value):
        return value[key]
    if value.shape is None or not isinstance(key, tuple) or len(key) != 1 + len(value.shape):
        raise call.refuse("slices each axis of an image", key, "write x[:, :, ::2, ::2]")
    if key[0] != slice(None):
        raise call.refuse("keeps all samples", key[0], "slice the other axes alone")
    starts, steps, shape = [], [], []
    for cut, size in zip(key[1:], value.shape, strict=True):
        if not isinstance(cut, slice):
            raise call.refuse("takes slices", cut, "write a slice for each axis")
        places = range(size)[cut]
        if len(places) == 0 or places.step < 1:
            raise call.refuse("keeps some elements, in order", cut, "use positive steps")
        starts.append(places.start)
        steps.append(places.step)
        shape.append(len(places))
    value = call.graph.whole(value, f"{call.name}.source")
    return Value(value.tensor, tuple(shape), tuple(starts), tuple(steps))


def _concatenate(call: Call) -> Value:
    values, axis = call.given(0, "tensors"), call.given(1, "dim", 0)
    if not isinstance(values, (tuple, list)) or not all(isinstance(v, Value) for v in values):
        raise call.refuse(
            "joins tensors that depend on the model's input", values, "take the others out"
        )
    return concatenate(call, values, axis)


def _pad(call: Call) -> Value:
    widths, mode, fill = call.args[1], call.given(2, "mode", "constant"), call.given(3, "value", 0)
    widths = (*widths, *(0,) * 6)[:6] if len(widths) <= 6 else tuple(widths)
    if mode != "constant" or fill not in (None, 0, 0.0) or any(widths[:4]) or len(widths) != 6:
        raise call.refuse(
            "adds channels of zeros",
            f"widths {widths}, mode {mode!r}, value {fill}",
            "pad the images in the convolution that follows",
        )
    return pad_channels(call, call.value, widths[4], widths[5])


def _dropout(call: Call) -> Value:
    return call.value


MODULES: dict[type, Callable[[Call, Any], Value]] = {
    nn.Linear: _linear,
    TTLinear: _linear,
    FactorisedLinear: _linear,
    nn.Conv2d: _convolution,
    FactorisedConv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
    nn.Tanh: _TANH,
    nn.Sigmoid: _SIGMOID,
    nn.Dropout: _nothing,
    nn.Dropout2d: _nothing,
    nn.Identity: _nothing,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
}

FUNCTIONS: dict[Any, Callable[[Call], Any]] = {
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    torch.relu: _relu,
    nn.functional.relu: _relu,
    torch.tanh: _TANH,
    torch.sigmoid: _SIGMOID,
    nn.functional.max_pool2d: _max_pool,
    nn.functional.avg_pool2d: _average_pool,
    nn.functional.adaptive_avg_pool2d: _adaptive,
    nn.functional.dropout: _dropout,
    nn.functional.pad: _pad,
    torch.cat: _concatenate,
    torch.concat: _concatenate,
    torch.concatenate: _concatenate,
    torch.flatten: _flatten,
    torch.mean: _mean,
    operator.getitem: _item,
    operator.sub: _subtract,
    operator.mul: _multiply,
    operator.truediv: _divide,
}

METHODS: dict[str, Callable[[Call], Any]] = {
    "add": _add,
    "add_": _add,
    "relu": _relu,
    "relu_": _relu,
    "tanh": _TANH,
    "sigmoid": _SIGMOID,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    "mean": _mean,
    "size": _size,
    "contiguous": _nothing,
}
