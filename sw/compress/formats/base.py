"""What every decomposition format is: a spec (which cores there are), and how a trained weight
becomes cores. Everything else follows from the spec, because every format is a contraction network.

A spec names indices as ``gen.network`` does. Names in ``n`` factor the inputs, names in ``m`` the
outputs, names in ``k`` the positions of a convolution's kernel; all others are bonds. So
reconstruction, counting, layers and lowering are written once, here and in ``contraction``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.backend import torch

if TYPE_CHECKING:
    from drawbar.gen.network import ContractionNetwork
    from drawbar.sw.compress.factorised import FactorisedLayer


@dataclass(frozen=True)
class Spec:
    """The structure of one layer's weight, before there are values.

    Arguments
    ---------
    format:
        Name of the format in the registry.
    name:
        The layer, for messages.
    shape:
        Of the dense weight: ``(outputs, inputs)``, or ``(outputs, inputs, height, width)`` of a
        convolution.
    sizes:
        Size of every index.
    cores:
        The indices of each core; a core's shape follows from them.
    input, output, kernel:
        Indices that factor the inputs, the outputs and the kernel's positions, row-major. The modes
        of inputs and outputs may multiply to more than the layer has: the rest is zero padding.
    ranks:
        As the format counts them.
    options:
        What else the format was asked; JSON values.
    """

    format: str
    name: str
    shape: tuple[int, ...]
    sizes: Mapping[str, int]
    cores: tuple[tuple[str, ...], ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    kernel: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        return self.shape[0]

    @property
    def inputs(self) -> int:
        return self.shape[1]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """``(height, width)`` of a convolution, ``()`` of a linear layer."""
        return self.shape[2:]

    @property
    def modes_out(self) -> tuple[int, ...]:
        return self.modes(self.output)

    @property
    def modes_in(self) -> tuple[int, ...]:
        return self.modes(self.input)

    @property
    def core_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self.modes(indices) for indices in self.cores)

    @property
    def parameters(self) -> int:
        """Weights in the cores, bias aside."""
        return sum(prod(shape) for shape in self.core_shapes)

    @property
    def dense_weights(self) -> int:
        """Weights of the dense layer, bias aside."""
        return prod(self.shape)

    @property
    def bonds(self) -> tuple[str, ...]:
        """The indices that are summed over."""
        outside = {*self.input, *self.output, *self.kernel}
        return tuple(index for index in self.sizes if index not in outside)

    def modes(self, indices: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.sizes[index] for index in indices)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; ``Spec.from_dict`` reads them."""
        return {
            "format": self.format,
            "name": self.name,
            "shape": list(self.shape),
            # Pairs, because the order of the indices is part of the structure.
            "sizes": [list(pair) for pair in self.sizes.items()],
            "cores": [list(core) for core in self.cores],
            "input": list(self.input),
            "output": list(self.output),
            "kernel": list(self.kernel),
            "ranks": list(self.ranks),
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Spec:
        """The spec that ``as_dict`` described; KeyError, TypeError or ValueError if none."""
        return cls(
            format=fields["format"],
            name=fields["name"],
            shape=tuple(fields["shape"]),
            sizes={index: size for index, size in fields["sizes"]},
            cores=tuple(tuple(core) for core in fields["cores"]),
            input=tuple(fields["input"]),
            output=tuple(fields["output"]),
            kernel=tuple(fields["kernel"]),
            ranks=tuple(fields["ranks"]),
            options=dict(fields["options"]),
        )


class Format(ABC):
    """One decomposition format. Subclasses give ``name``, ``spec`` and ``decompose``.

    Members
    -------
    name:
        In the registry and in configurations.
    convolution:
        Whether the format is defined for convolutions.
    """

    name: ClassVar[str]
    convolution: ClassVar[bool] = False

    @abstractmethod
    def spec(
        self,
        shape: Sequence[int],
        *,
        name: str = "",
        modes_out: Sequence[int] | None = None,
        modes_in: Sequence[int] | None = None,
        max_rank: int | None = None,
        ranks: Sequence[int] | None = None,
        grow: bool = False,
        stacklevel: int = 1,
        **options: Any,
    ) -> Spec:
        """Check what is asked of a layer, and settle what is not.

        Arguments
        ---------
        shape:
            Of the dense weight, as in ``Spec``.
        modes_out, modes_in:
            Balanced modes where they are not given, as many as the format likes.
        max_rank, ranks:
            One rank for all bonds, or each (see the format). Neither: the largest useful ones.
        grow:
            Accept cores of more weights than the dense layer has.
        stacklevel:
            Frames between this method and the caller to whom a warning is shown.

        Raises
        ------
        NetworkError:
            modes or ranks that do not fit, an unknown option, a layer that would grow, or a
            convolution in a format that has none.

        Warns
        -----
        RankWarning:
            a rank was clipped to the largest useful one; names the layer.
        """

    @abstractmethod
    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """The cores that approximate a trained weight, of the weight's type and device.

        Computed in float64, without gradients. Exact, to rounding, at full ranks.

        Arguments
        ---------
        start:
            Cores near by, where a format that iterates towards a local optimum begins; with them
            the result is at least as good as they are. Formats that need none take no notice.

        Raises
        ------
        NetworkError:
            the weight is not of the spec's shape, or holds NaN or infinity.
        """

    def reconstruct(self, cores: Sequence[torch.Tensor], spec: Spec) -> torch.Tensor:
        """The dense weight, of ``spec.shape``; differentiable."""
        from drawbar.sw.compress.contraction import dense_weight

        return dense_weight(cores, spec)

    def project(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The weight of this structure near the given one, dense: the projection of ADMM."""
        with torch.no_grad():
            return self.reconstruct(self.decompose(weight, spec, start=start), spec)

    def parameters(self, spec: Spec) -> int:
        """Weights in the cores, exactly."""
        return spec.parameters

    def layer(
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
    ) -> FactorisedLayer:
        """A trainable layer that never forms the dense weight.

        Arguments
        ---------
        cores:
            Its first values; without them they are drawn so that the weight has the variance of a
            fresh dense layer.
        bias:
            The values ``(outputs,)``, or whether there is a bias (drawn anew).
        stride, padding, dilation:
            Of a convolution.
        """
        from drawbar.sw.compress.factorised import build_layer

        return build_layer(
            spec,
            cores,
            bias=bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            device=device,
            dtype=dtype,
        )

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        """The layer's inference for the compiler, in float64.

        Raises
        ------
        NetworkError:
            a convolution, which the compiler does not run, or weights that are not finite.
        """
        from drawbar.sw.compress.factorised import layer_network

        return layer_network(layer, name)


def check_weight(weight: torch.Tensor, spec: Spec) -> torch.Tensor:
    """The weight as float64, detached.

    Raises
    ------
    NetworkError:
        the weight is not a finite real tensor of the spec's shape.
    """
    where = f"layer {spec.name!r}, weight"
    if tuple(weight.shape) != spec.shape or not weight.is_floating_point():
        raise NetworkError(
            where,
            f"is a real tensor of shape {spec.shape}",
            f"{tuple(weight.shape)} of {weight.dtype}",
            "give the weight of the layer that the spec was made for",
        )
    if not torch.isfinite(weight).all():
        raise NetworkError(where, "holds finite numbers", "NaN or infinity", "mend the weights")
    return weight.detach().double()


def check_growth(spec: Spec, grow: bool) -> Spec:
    """The spec itself, if its cores have no more weights than the dense layer, or if that is what
    was asked for.

    Raises
    ------
    NetworkError:
        the layer would grow.
    """
    if spec.parameters > spec.dense_weights and not grow:
        raise NetworkError(
            f"layer {spec.name!r}, format {spec.format!r}",
            f"has at most the {spec.dense_weights} weights of the dense layer",
            f"{spec.parameters} weights in the cores, ranks {spec.ranks}",
            "lower the ranks, leave the layer dense, or ask for it with grow=True",
        )
    return spec
