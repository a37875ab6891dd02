"""Layers whose weight is given by cores: PyTorch modules for every format, and their lowering."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from drawbar.gen.errors import InputError, NetworkError
from drawbar.gen.formats.convolution import TAPS, convolution_network
from drawbar.gen.network import ContractionNetwork, Core
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.contraction import contract, convolve_chain, dense_weight
from drawbar.sw.compress.spec import Spec


class FactorisedLayer(nn.Module):
    """A layer whose weight is cores.

    Arguments
    ---------
    spec:
        The structure.
    cores:
        First values; drawn without them.
    bias:
        First values ``(outputs,)``, or whether there is a bias.

    Members
    -------
    cores:
        Parameters, of the shapes in ``spec.core_shapes``.
    bias:
        ``(outputs,)`` or None.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        spec: Spec,
        cores: Sequence[torch.Tensor] | None = None,
        *,
        bias: torch.Tensor | bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        if cores is not None:
            _check_cores(cores, spec)
            device, dtype = device or cores[0].device, dtype or cores[0].dtype
        self.cores = nn.ParameterList(
            nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            for shape in spec.core_shapes
        )
        if bias is False:
            self.register_parameter("bias", None)
        else:
            self.bias = nn.Parameter(torch.empty(spec.outputs, device=device, dtype=dtype))
        with torch.no_grad():
            if cores is None:
                self.reset_parameters()
            else:
                for parameter, core in zip(self.cores, cores, strict=True):
                    parameter.copy_(core)
                if bias is True:
                    self._reset_bias()
            if isinstance(bias, torch.Tensor) and self.bias is not None:
                self.bias.copy_(bias)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def modes_out(self) -> tuple[int, ...]:
        return self.spec.modes_out

    @property
    def modes_in(self) -> tuple[int, ...]:
        return self.spec.modes_in

    @property
    def ranks(self) -> tuple[int, ...]:
        return self.spec.ranks

    @property
    def dense_weights(self) -> int:
        """Weights of the dense layer, bias aside."""
        return self.spec.dense_weights

    @property
    def core_weights(self) -> int:
        """Weights in the cores, bias aside."""
        return self.spec.parameters

    @property
    def compression(self) -> float:
        """Dense weights for each core weight."""
        return self.dense_weights / self.core_weights

    def reset_parameters(self) -> None:
        """Draw the cores and the bias anew, so that the weight has the variance of a fresh dense
        layer's.
        """
        # The weight's variance is the product of the cores' and of the bonds that are summed over.
        fan = self.spec.inputs * prod(self.spec.kernel_size)
        summed = prod(self.spec.modes(self.spec.bonds))
        deviation = (1 / (3 * fan * summed)) ** (1 / (2 * len(self.cores)))
        for core in self.cores:
            nn.init.normal_(core, std=deviation)
        self._reset_bias()

    def _reset_bias(self) -> None:
        if self.bias is not None:
            bound = (self.spec.inputs * prod(self.spec.kernel_size)) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def reconstruct(self) -> torch.Tensor:
        """The dense weight, of ``spec.shape``; differentiable."""
        return dense_weight(list(self.cores), self.spec)

    def _described(self) -> str:
        return (
            f"modes_in={self.modes_in}, modes_out={self.modes_out}, ranks={self.ranks}, "
            f"bias={self.bias is not None}, compression={self.compression:.1f}"
        )


class FactorisedLinear(FactorisedLayer):
    """A linear layer: ``y = W x + b``, and W is never formed."""

    @property
    def in_features(self) -> int:
        return self.spec.inputs

    @property
    def out_features(self) -> int:
        return self.spec.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``.

        Raises
        ------
        InputError:
            the last axis is not the layer's inputs.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise InputError(
                f"input of layer {self.name!r}",
                f"has shape (..., {self.in_features})",
                tuple(x.shape),
                "reshape the input, or mend the layer before",
            )
        flat = x.reshape(x.numel() // self.in_features, self.in_features).t()
        y, _ = contract(flat, list(self.cores), self.spec)
        y = y.t().reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, {self._described()}"
        )


class FactorisedConv2d(FactorisedLayer):
    """A convolution ``(batch, channels, height, width)``, as a chain of smaller ones; the kernel is
    never formed.

    Arguments
    ---------
    stride, padding, dilation:
        As in ``nn.Conv2d``; padding with zeros.
    """

    def __init__(
        self,
        spec: Spec,
        cores: Sequence[torch.Tensor] | None = None,
        *,
        bias: torch.Tensor | bool = True,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(spec, cores, bias=bias, device=device, dtype=dtype)
        self.stride, self.padding, self.dilation = _two(stride), _two(padding), _two(dilation)

    @property
    def in_channels(self) -> int:
        return self.spec.inputs

    @property
    def out_channels(self) -> int:
        return self.spec.outputs

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return self.spec.kernel_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, inputs, height, width)`` to ``(batch, outputs, height', width')``.

        Raises
        ------
        InputError:
            the input is not four-way, or has other channels.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f"input of layer {self.name!r}",
                f"has shape (batch, {self.in_channels}, height, width)",
                tuple(x.shape),
                "reshape the input, or mend the layer before",
            )
        geometry = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        chained = convolve_chain(x, list(self.cores), self.spec, **geometry)
        if chained is not None:
            return chained if self.bias is None else chained + self.bias[:, None, None]
        batch, channels, height, width = x.shape
        y, space = contract(
            x.transpose(0, 1).reshape(channels, batch * height * width),
            list(self.cores),
            self.spec,
            space=(height, width),
            **geometry,
        )
        assert space is not None
        y = y.reshape(self.out_channels, batch, *space).transpose(0, 1)
        return y if self.bias is None else y + self.bias[:, None, None]

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"{self._described()}"
        )


def build_layer(
    spec: Spec,
    cores: Sequence[torch.Tensor] | None = None,
    *,
    bias: torch.Tensor | bool = True,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> FactorisedLayer:
    """The layer of a spec; see ``Format.layer``."""
    if not spec.kernel_size:
        return FactorisedLinear(spec, cores, bias=bias, device=device, dtype=dtype)
    return FactorisedConv2d(
        spec,
        cores,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        device=device,
        dtype=dtype,
    )


def layer_arrays(layer: FactorisedLayer, name: str) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Cores and bias in float64, for lowering.

    Raises
    ------
    NetworkError:
        the layer is a convolution, whose network depends on its image (``convolution_of``), or has
        no floating-point weights.
    """
    where = f"layer {name!r}"
    if layer.spec.kernel_size:
        raise NetworkError(
            where,
            "is linear",
            f"a convolution, format {layer.spec.format!r}, whose network depends on its image",
            "lower the model that it is in",
        )
    return _arrays(layer, where)


def _arrays(layer: FactorisedLayer, where: str) -> tuple[list[np.ndarray], np.ndarray | None]:
    bias = None if layer.bias is None else as_array(where, layer.bias)
    return [as_array(where, core) for core in layer.cores], bias


def convolution_of(
    layer: FactorisedConv2d, name: str, shape: tuple[int, int]
) -> ContractionNetwork:
    """The network of a convolution of an image of this height and width: the spec's, whose kernel
    becomes taps.
    """
    spec = layer.spec
    arrays, bias = _arrays(layer, f"layer {name!r}")
    sizes = {i: size for i, size in spec.sizes.items() if i not in spec.kernel}
    taps = dict(zip(TAPS, spec.kernel_size, strict=True))
    cores = []
    for indices, values in zip(spec.cores, arrays, strict=True):
        own: list[str] = []
        for index in indices:
            if index not in spec.kernel:
                own.append(index)
            elif len(spec.kernel) == 1:
                own += TAPS
            else:
                own.append(TAPS[spec.kernel.index(index)])
        cores.append(Core(tuple(own), values.reshape([{**sizes, **taps}[i] for i in own])))
    sides = []
    for letter, side, count in (("n", spec.input, spec.inputs), ("m", spec.output, spec.outputs)):
        modes = spec.modes(side)
        if prod(modes) != count:
            # The modes have room for more channels than there are: a core that says which are.
            chosen = np.eye(prod(modes))[:count].reshape(count, *modes)
            cores.append(Core((f"{letter}.all", *side), chosen))
            sizes[f"{letter}.all"] = count
            side = (f"{letter}.all",)
        sides.append(side)
    return convolution_network(
        name,
        spec.format,
        sizes={**sizes, **taps},
        cores=cores,
        input=sides[0],
        output=sides[1],
        shape=shape,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        bias=bias,
        ranks=spec.ranks,
    )


def as_array(where: str, tensor: torch.Tensor) -> np.ndarray:
    """A copy in float64."""
    if not tensor.is_floating_point():
        raise NetworkError(
            where, "has floating-point weights", tensor.dtype, "convert it with module.float()"
        )
    return tensor.detach().to("cpu", torch.float64).numpy().copy()


def layer_network(layer: FactorisedLayer, name: str) -> ContractionNetwork:
    """The network that a linear layer's spec describes; see ``Format.network``."""
    spec = layer.spec
    arrays, bias = layer_arrays(layer, name)
    assert prod(spec.modes_in) == spec.inputs
    assert prod(spec.modes_out) == spec.outputs
    # An index of size 1 says nothing, unless it is all that the input or the output has.
    kept = {i for i, size in spec.sizes.items() if size > 1}
    kept |= {*spec.input[:1], *spec.output[:1]}
    cores = tuple(
        Core(
            tuple(i for i in indices if i in kept),
            values.reshape([spec.sizes[i] for i in indices if i in kept]),
        )
        for indices, values in zip(spec.cores, arrays, strict=True)
    )
    return ContractionNetwork(
        name=name,
        format=spec.format,
        sizes={i: size for i, size in spec.sizes.items() if i in kept},
        cores=cores,
        input=tuple(i for i in spec.input if i in kept),
        output=tuple(i for i in spec.output if i in kept),
        bias=bias,
        ranks=spec.ranks,
    )


def _check_cores(cores: Sequence[torch.Tensor], spec: Spec) -> None:
    found = tuple(tuple(core.shape) for core in cores)
    if found != spec.core_shapes:
        raise NetworkError(
            f"layer {spec.name!r}, cores",
            f"have the shapes {spec.core_shapes}",
            found,
            "give the cores that the spec describes",
        )


def _two(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
