"""What every decomposition format is: a spec (which cores there are), and how a trained weight
becomes cores. Everything else follows from the spec, because every format is a contraction network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.contraction import dense_weight
from drawbar.sw.compress.factorised import FactorisedLayer, build_layer, layer_network
from drawbar.sw.compress.formats.settle import Asked, check_growth, check_shape, take_options
from drawbar.sw.compress.modes import warn_clipped
from drawbar.sw.compress.spec import Spec


class Format(ABC):
    """One decomposition format. Subclasses give ``name``, ``settle`` and ``decompose``.

    Members
    -------
    name:
        In the registry and in configurations.
    convolution:
        Whether the format is defined for convolutions.
    defaults:
        The format's own options, with their values where they are not given.
    """

    name: ClassVar[str]
    convolution: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {}

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
        shape = check_shape(shape, name, self.name, self.convolution)
        chosen = take_options(options, self.defaults, name, self.name)
        asked = Asked(shape, name, modes_out, modes_in, max_rank, ranks, chosen)
        spec = self.settle(asked)
        for wanted, used, what in asked.clipped:
            warn_clipped(name, wanted, used, what, stacklevel + 1)
        return check_growth(spec, grow)

    @abstractmethod
    def settle(self, asked: Asked) -> Spec:
        """The spec for what is asked, as ``spec`` says; its size is checked there."""

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
        """A linear layer's inference for the compiler, in float64; a convolution's follows from its
        spec (``factorised.convolution_of``).

        Raises
        ------
        NetworkError:
            weights that are not finite.
        """
        return layer_network(layer, name)
