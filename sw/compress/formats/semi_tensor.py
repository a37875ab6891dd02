"""Semi-tensor product formats (Zhao et al. 2021, arXiv 2109.15200): cores that stand for their
Kronecker product with an identity, which is never formed.

A core that shrinks by t is ``G (x) I_t``: the last digit of its left rank, of size t, is the last
digit of its right rank. So the rank ``R`` between two cores is an index of size ``R / t`` that both
have, and digits that go on to the next core that has them; what is left is an ordinary contraction
network with fewer weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import lcm, prod
from typing import Any, ClassVar

from drawbar.gen.errors import NetworkError
from drawbar.sw.compress.als import fit_weight
from drawbar.sw.compress.backend import torch
from drawbar.sw.compress.formats.base import Format
from drawbar.sw.compress.formats.settle import Asked, kernel_sizes, side_sizes, weight_tensor
from drawbar.sw.compress.formats.tensor_ring import TensorRing, ring_bounds
from drawbar.sw.compress.formats.train import TTMatrix
from drawbar.sw.compress.formats.tucker import core_bounds
from drawbar.sw.compress.hooi import tucker
from drawbar.sw.compress.spec import Spec
from drawbar.sw.compress.tt import train_svd

#: What these formats are asked besides; cores shrink by 2 where nothing else is asked.
DEFAULTS: dict[str, Any] = {"t": 2, "shrink": None}
SEED = 0


def semi_tensor_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The left semi-tensor product of matrices ``(m, n)`` and ``(p, q)``:
    ``(A (x) I_(t/n)) (B (x) I_(t/p))``, where t is the least common multiple of n and p.

    Returns
    -------
    ``(m t / n, q t / p)``. Where n = p, the matrix product.
    """
    (m, n), (p, q) = a.shape, b.shape
    t = lcm(n, p)
    over_a, over_b = t // n, t // p
    if over_a == 1:  # the columns of A are (p, t/p), the latter go on to the result
        return torch.einsum("mpt,pq->mqt", a.reshape(m, p, over_b), b).reshape(m, q * over_b)
    if over_b == 1:
        return torch.einsum("mn,ntq->mtq", a, b.reshape(n, over_a, q)).reshape(m * over_a, q)
    # Neither divides: rows of B, each spread over a diagonal, are the rows that A combines.
    spread = torch.diag_embed(b[:, None, :].expand(p, over_b, q).transpose(1, 2))
    spread = spread.permute(0, 2, 1, 3).reshape(n, over_a, q * over_b)
    return torch.einsum("mn,ntq->mtq", a, spread).reshape(m * over_a, q * over_b)


class SemiTensorChain(Format):
    """A train or a ring of which some cores shrink.

    Options
    -------
    t:
        By how much cores shrink; 2 if not given.
    shrink:
        By how much each core shrinks, a number for each. Of any two, one divides the other.
    """

    convolution = True
    #: The format of whole cores.
    whole: ClassVar[type[Format]]

    @abstractmethod
    def ratios(self, cores: int, t: int) -> tuple[int, ...]:
        """By how much each core shrinks where only t is given."""

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ranks are those of the whole cores, which the ratios divide."""
        options = dict(asked.options)
        t, shrink, clip = options.pop("t"), options.pop("shrink"), options["clip"]
        whole = self.whole().settle(replace(asked, options={**options, "clip": False}))
        count = len(whole.cores)
        ratios = tuple(shrink) if shrink is not None else self.ratios(count, t)
        check_ratios(ratios, count, asked.name, "cores")
        free = asked.max_rank is None and asked.ranks is None
        if free:  # where there is room, a shrunk core has more
            bonds = {core[-1]: max(ratios) ** 2 for core in whole.cores}
            bonds |= {i: 1 for i, size in whole.sizes.items() if size == 1}
            whole = replace(
                whole, sizes={i: size * bonds.get(i, 1) for i, size in whole.sizes.items()}
            )
        spec = shrink_chain(whole, ratios)
        if clip:
            spec = clip_bonds(spec, whole)
            if not free:
                wanted = [whole.sizes[core[-1]] for core in whole.cores]
                asked.note_clipped(wanted, spec.ranks[1:], "bond")
        return replace(spec, format=self.name, options={**options, "shrink": list(ratios)})

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """A local optimum from random cores."""
        if start is None:
            generator = torch.Generator().manual_seed(SEED)
            start = [
                torch.randn(shape, generator=generator, dtype=torch.float64)
                for shape in spec.core_shapes
            ]
        return fit_weight(weight, spec, start)


class SemiTensorTrain(SemiTensorChain):
    """STT: core 0 as in the TT-matrix, core k ``(R[k-1] / t, I[k], R[k] / t)``, the last one
    ``(R / t, I / t)``: its mode has the digit that no rank is left for. A convolution has the
    layout of ``TTMatrix``.
    """

    name = "stt"
    whole = TTMatrix
    defaults = {**DEFAULTS, **TTMatrix.defaults}

    def ratios(self, cores: int, t: int) -> tuple[int, ...]:
        return (1, *(t,) * (cores - 1))

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """Where all cores but the first shrink alike, the digits all go from the first core to the
        last mode: a train, and its TT-SVD. Otherwise a local optimum from random cores.
        """
        ratios = spec.options["shrink"]
        if ratios[0] != 1 or len(set(ratios[1:])) != 1:
            return super().decompose(weight, spec, start=start)
        outside = {*spec.output, *spec.input, *spec.kernel}
        sites = [tuple(i for i in core if i in outside) for core in spec.cores]
        ranks = [spec.sizes[f"r{k}"] for k in range(1, len(spec.cores))]
        train = train_svd(weight_tensor(weight, spec, sites), ranks)
        found = []
        for core, indices, site in zip(train, spec.cores, sites, strict=True):
            bonds = [i for i in indices if i not in outside]
            left = [i for i in bonds if indices.index(i) == 0]
            now = (*left, *site, *(i for i in bonds if i not in left))
            core = core.reshape(spec.modes(now)).permute([now.index(i) for i in indices])
            found.append(core.to(weight.dtype).contiguous())
        return found


class SemiTensorRing(SemiTensorChain):
    """STR: a tensor ring whose cores shrink, all but the first and the last if nothing else is
    asked. (Were only one core whole, it would be traced over the digits, and they would say
    nothing.)
    """

    name = "str"
    whole = TensorRing
    defaults = {**DEFAULTS, **TensorRing.defaults}

    def ratios(self, cores: int, t: int) -> tuple[int, ...]:
        return (1, *(t,) * (cores - 2), 1) if cores > 1 else (1,)


class SemiTensorTucker(Format):
    """STTu: a Tucker core as it is, and factors ``(I[k] / t, R[k] / t)`` that stand for
    ``U[k] (x) I_t``.

    Options
    -------
    t:
        By how much factors shrink; 2 if not given.
    shrink:
        By how much each factor shrinks, those of the outputs and then those of the inputs.
    """

    name = "sttu"
    convolution = True
    defaults = DEFAULTS

    def settle(self, asked: Asked) -> Spec:
        """See ``Format.spec``; ranks are those of the core, which the ratios divide."""
        t, shrink, name = asked.options["t"], asked.options["shrink"], asked.name
        out, in_ = asked.modes(1)
        m, n, kernel = side_sizes("m", out), side_sizes("n", in_), kernel_sizes(asked.shape)
        modes = {**m, **n}
        given = asked.given_ranks(
            len(modes), "mode", f"{len(out)} output modes, then of the {len(in_)} input modes"
        )
        ratios = tuple(shrink) if shrink is not None else (t,) * len(modes)
        check_ratios(ratios, len(modes), name, "factors")
        wanted = given or tuple(modes.values())
        for (mode, size), rank, ratio in zip(modes.items(), wanted, ratios, strict=True):
            check_divides(ratio, size, f"layer {name!r}, mode {mode}")
            check_divides(ratio, rank, f"layer {name!r}, rank of mode {mode}")
        tops = core_bounds(
            [size // ratio for size, ratio in zip(modes.values(), ratios, strict=True)],
            [rank // ratio for rank, ratio in zip(wanted, ratios, strict=True)],
            prod(kernel.values()) * prod(ratios),
        )
        used = tuple(top * ratio for top, ratio in zip(tops, ratios, strict=True))
        asked.note_clipped(given, used, "mode")
        sizes: dict[str, int] = dict(kernel)
        digits: dict[str, tuple[str, ...]] = {}
        bonds = []
        for (mode, size), ratio, top in zip(modes.items(), ratios, tops, strict=True):
            bonds.append(f"r{mode}")
            sizes |= {mode: size // ratio, f"r{mode}": top}
            digits[mode] = (mode,)
            if ratio > 1:
                sizes[f"{mode}_0"] = ratio
                digits[mode] = (mode, f"{mode}_0")
        core = [
            i for bond, mode in zip(bonds, modes, strict=True) for i in (bond, *digits[mode][1:])
        ]
        return Spec(
            format=self.name,
            name=asked.name,
            shape=asked.shape,
            sizes=sizes,
            cores=((*core, *kernel), *zip(modes, bonds, strict=True)),
            input=tuple(i for mode in n for i in digits[mode]),
            output=tuple(i for mode in m for i in digits[mode]),
            kernel=tuple(kernel),
            ranks=used,
            options={"shrink": list(ratios)},
        )

    def decompose(
        self, weight: torch.Tensor, spec: Spec, *, start: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """HOOI, with the digits as axes that have no factor."""
        axes = (*spec.output, *spec.input, *spec.kernel)
        ranks = [spec.sizes.get(f"r{i}") for i in axes]
        core, factors = tucker(weight_tensor(weight, spec, [(i,) for i in axes]), ranks)
        found = [core.reshape(spec.core_shapes[0])]
        found += [factor for factor in factors if factor is not None]
        return [part.to(weight.dtype).contiguous() for part in found]


def check_ratios(ratios: Sequence[int], count: int, name: str, what: str) -> None:
    """Raise a NetworkError if these are not ratios for so many cores."""
    where = f"layer {name!r}, shrink"
    good = all(isinstance(t, int) and not isinstance(t, bool) and t >= 1 for t in ratios)
    if len(ratios) != count or not good:
        raise NetworkError(
            where,
            f"is {count} positive integers, one for each of the {what}",
            tuple(ratios),
            "give 1 for what stays whole",
        )
    for small, large in pairwise(sorted(set(ratios))):
        if large % small:
            raise NetworkError(
                where, "are ratios of which one divides the other", (small, large), "use powers"
            )


def check_divides(ratio: int, size: int, where: str) -> None:
    """Raise a NetworkError unless the ratio divides the size."""
    if size % ratio:
        raise NetworkError(
            where,
            f"is divided by the {ratio} that cores shrink by",
            size,
            f"use a multiple of {ratio}",
        )


def shrink_chain(whole: Spec, ratios: Sequence[int]) -> Spec:
    """The spec of a chain ``(bond, site, bond)`` or ring with cores that shrink.

    Raises
    ------
    NetworkError:
        a rank or the last mode that its ratio does not divide, a first core of a train that
        shrinks, or a ring in which the digits meet no two cores.
    """
    where = f"layer {whole.name!r}"
    cores = whole.cores
    ring = cores[0][0] == cores[-1][-1]
    if not ring and ratios[0] != 1:
        raise NetworkError(
            f"{where}, shrink", "leaves the first core of a train whole", ratios[0], "begin with 1"
        )
    levels = sorted({t for t in ratios if t > 1})
    steps = [large // small for small, large in pairwise([1, *levels])]
    # How many digits go through a core, and how many a bond has; digit 0 is the fastest.
    through = [0 if t == 1 else levels.index(t) + 1 for t in ratios]
    depth = {cores[k][-1]: through[k] for k in range(len(cores))}
    for core, many in zip(cores, through, strict=True):
        depth[core[0]] = max(depth.get(core[0], 0), many)
    sizes = dict(whole.sizes)
    owner: dict[tuple[str, int], tuple[str, int]] = {}  # where a digit comes from

    def root(digit: tuple[str, int]) -> tuple[str, int]:
        while digit in owner:
            digit = owner[digit]
        return digit

    last_mode = cores[-1][-2]
    if not ring:
        depth[cores[0][0]], depth[cores[-1][-1]] = 0, 0
        if through[-1]:
            check_divides(ratios[-1], sizes[last_mode], f"{where}, mode {last_mode}")
            sizes[last_mode] //= ratios[-1]
    for bond, many in depth.items():
        if many:
            check_divides(levels[many - 1], sizes[bond], f"{where}, rank {bond}")
            sizes[bond] //= levels[many - 1]
    for number in reversed(range(len(cores))):  # digits are named by where they end
        left, right = cores[number][0], cores[number][-1]
        ends = not ring and number == len(cores) - 1
        for digit in range(through[number]):
            here, there = root((left, digit)), root((last_mode if ends else right, digit))
            if here != there:
                owner[here] = there
    found, used = [], []
    for number, core in enumerate(cores):
        left, right, many = core[0], core[-1], through[number]
        indices = [left, *_digits(left, depth[left], many), *core[1:-1]]
        indices += [right, *_digits(right, depth[right], many)]
        named = [root(i) if isinstance(i, tuple) else (i, -1) for i in indices]
        if len(set(named)) < len(named):
            raise NetworkError(
                f"{where}, shrink",
                "leaves at least two cores of a ring whole",
                tuple(ratios),
                "put a 1 at another core",
            )
        used += [i for i in named if i[1] >= 0]
        found.append(tuple(_name(i) for i in named))
    if ring and levels and not used:
        raise NetworkError(
            f"{where}, shrink", "leaves at least two cores whole", tuple(ratios), "use 1 for some"
        )
    carried = [(last_mode, digit) for digit in reversed(range(through[-1]))] if not ring else []
    new = {_name(i): steps[i[1]] for i in dict.fromkeys(used)}

    def side(indices: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            j for i in indices for j in (i, *(_name(digit) for digit in carried if digit[0] == i))
        )

    return replace(
        whole,
        sizes={**sizes, **new},
        cores=tuple(found),
        input=side(whole.input),
        output=side(whole.output),
    )


def _digits(bond: str, depth: int, through: int) -> list[tuple[str, int]]:
    """Those of a bond's digits that are the core's own, the slowest first."""
    return [(bond, digit) for digit in reversed(range(through, depth))]


def _name(index: tuple[str, int]) -> str:
    return index[0] if index[1] < 0 else f"{index[0]}_{index[1]}"


def clip_bonds(spec: Spec, whole: Spec) -> Spec:
    """Bonds no larger than what either of their cores has besides."""
    sizes = dict(spec.sizes)
    bonds = [core[-1] for core in whole.cores]
    ratio = {bond: whole.sizes[bond] // spec.sizes[bond] for bond in bonds}
    first = whole.cores[0][0]
    if first == bonds[-1]:  # all around a ring, neighbours do not bound each other
        modes = [prod(whole.modes(core[1:-1])) for core in whole.cores]
        bounds = ring_bounds(modes, [prod(modes)] * len(modes))
        for core, bound in zip(whole.cores, bounds, strict=True):
            sizes[core[0]] = min(sizes[core[0]], bound * max(ratio.values()))
    while True:
        before = dict(sizes)
        for bond in bonds:
            for core in spec.cores:
                if bond in core:
                    others = prod(sizes[i] for i in core if i != bond)
                    sizes[bond] = min(sizes[bond], others)
        if sizes == before:
            break
    ranks = [sizes[bond] * ratio[bond] for bond in bonds]
    lead = sizes[first] * ratio.get(first, 1)
    return replace(spec, sizes=sizes, ranks=(lead, *ranks))
