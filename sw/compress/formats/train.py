"""Trains, found by TT-SVD: the TT-matrix, the tensor train over single modes, convolutions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

from drawbar.gen.errors import NetworkError
from drawbar.gen.formats import tensor_train_network, tt_network
from drawbar.gen.network import ContractionNetwork
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.factorised import FactorisedLayer, layer_arrays
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import (
    KERNEL,
    Asked,
    kernel_sizes,
    side_sizes,
    weight_tensor,
)
from drawbar.sw.compress.modes import chain_bounds
from drawbar.sw.compress.spec import Spec
from drawbar.sw.compress.tt import train_svd

#: Layouts of a TT-convolution.
LAYOUTS = ("garipov", "out_kernel_in")


class Train(Format):
    """A chain of cores, each with some modes of its own (a site) and a bond to either neighbour.

    Options
    -------
    clip:
        Whether ranks are lowered to the largest useful ones. Without that they are as asked, as
        published counts of weights have them.
    """

    convolution = True
    defaults: ClassVar[dict[str, Any]] = {"clip": True}

    @abstractmethod
    def sites(self, sizes: dict[str, int], layout: str) -> list[tuple[str, ...]]:
        """The modes of each core, in the order of the chain."""

    def modes(self, asked: Asked) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those of the outputs and of the inputs."""
        return asked.modes()

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ``ranks`` has one for each inner bond."""
        layout = asked.options.get("layout", LAYOUTS[0])
        if layout not in LAYOUTS:
            raise NetworkError(
                f"layer {asked.name!r}, layout",
                f"is one of {', '.join(LAYOUTS)}",
                layout,
                "use one",
            )
        out, in_ = self.modes(asked)
        kernel = kernel_sizes(asked.shape)
        sizes = {**side_sizes("m", out), **side_sizes("n", in_), **kernel}
        sites = self.sites(sizes, layout)
        bonds = len(sites) - 1
        wanted = asked.given_ranks(bonds, "bond", f"{bonds} bonds between {bonds + 1} cores")
        used = chain_bounds([prod(sizes[i] for i in site) for site in sites], wanted)
        if wanted is not None and not asked.options["clip"]:
            used = wanted
        asked.note_clipped(wanted, used, "bond")
        whole = (1, *used, 1)
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes={**sizes, **{f"r{k}": rank for k, rank in enumerate(whole)}},
            cores=tuple((f"r{k}", *site, f"r{k + 1}") for k, site in enumerate(sites)),
            input=tuple(f"n{k}" for k in range(len(in_))),
            output=tuple(f"m{k}" for k in range(len(out))),
            kernel=tuple(kernel),
            ranks=whole,
            options=asked.options,
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """TT-SVD: at most the root of (cores - 1) times the best possible error."""
        tensor = weight_tensor(weight, spec, [core[1:-1] for core in spec.cores])
        cores = train_svd(tensor, spec.ranks[1:-1])
        return [
            core.reshape(shape).to(weight.dtype).contiguous()
            for core, shape in zip(cores, spec.core_shapes, strict=True)
        ]


class TTMatrix(Train):
    """TT-matrix (Novikov et al. 2015): cores ``(r[k-1], m[k], n[k], r[k])``.

    A convolution has one of two layouts. ``garipov`` (Garipov et al. 2016): core 0 is
    ``(1, height * width, r[0])``, the others ``(r[k-1], n[k], m[k], r[k])``. ``out_kernel_in`` (Yin
    et al. 2021): cores of the output modes ``(r, m[k], r)``, one of the kernel
    ``(r, height * width, r)``, cores of the input modes ``(r, n[k], r)``; it runs as 1 x 1
    convolutions, one of the kernel between ranks, and 1 x 1 convolutions again.
    """

    name = "tt"
    defaults = {"layout": LAYOUTS[0], "clip": True}

    def modes(self, asked: Asked) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return asked.paired_modes()

    def sites(self, sizes: dict[str, int], layout: str) -> list[tuple[str, ...]]:
        out = [i for i in sizes if i[0] == "m"]
        in_ = [i for i in sizes if i[0] == "n"]
        if KERNEL not in sizes:
            return list(zip(out, in_, strict=True))
        if layout == "garipov":
            return [(KERNEL,), *zip(in_, out, strict=True)]
        return [*((i,) for i in out), (KERNEL,), *((i,) for i in in_)]

    def layer(
        self,
        spec: Spec,
        cores: Sequence[torch.Tensor] | None = None,
        *,
        bias: torch.Tensor | bool = True,
        **arguments: Any,
    ) -> FactorisedLayer:
        if spec.kernel_size:
            return super().layer(spec, cores, bias=bias, **arguments)
        from drawbar.sw.compress.layers import TTLinear

        device, dtype = arguments.get("device"), arguments.get("dtype")
        return TTLinear.from_spec(spec, cores, bias=bias, device=device, dtype=dtype)

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        cores, bias = layer_arrays(layer, name)
        return tt_network(name, cores, bias=bias)


class TensorTrain(Train):
    """Tensor train over single modes (as in ETTE): cores ``(r[k-1], mode[k], r[k])``, the input
    modes, of a convolution the kernel, the output modes.
    """

    name = "tensor_train"

    def sites(self, sizes: dict[str, int], layout: str) -> list[tuple[str, ...]]:
        order = [i for i in sizes if i[0] == "n"], [KERNEL], [i for i in sizes if i[0] == "m"]
        return [(i,) for part in order for i in part if i in sizes]

    def network(self, layer: FactorisedLayer, name: str) -> ContractionNetwork:
        cores, bias = layer_arrays(layer, name)
        return tensor_train_network(name, cores, inputs=len(layer.modes_in), bias=bias)
