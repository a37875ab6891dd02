"""Modes and ranks: integers only, checked before any decomposition starts."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import log2, prod

from drawbar.gen.errors import NetworkError, RankWarning


def factorise(size: int, count: int) -> tuple[int, ...]:
    """``count`` balanced modes whose product is ``size``; small ones outside, large ones inside.

    Of all such factorisations the one with the least sum: 784 in 4 is (4, 7, 7, 4), 256 in 3 is
    (4, 8, 8). A size with too few factors gets modes of 1.

    Raises
    ------
    NetworkError:
        ``size`` or ``count`` is not a positive integer.
    """
    for name, value in (("size", size), ("count", count)):
        if not _is_positive(value):
            raise NetworkError(
                f"factorisation, {name}", "is a positive integer", value, f"give a {name} of 1 up"
            )
    return _factorise(operator.index(size), operator.index(count))


@lru_cache
def _factorise(size: int, count: int) -> tuple[int, ...]:
    ascending = min(_factorisations(size, count, 1), key=lambda modes: (sum(modes), modes))
    # Bonds next to the ends are bounded by the outermost modes: there small modes cost no rank.
    return (*ascending[::2], *reversed(ascending[1::2]))


def _factorisations(size: int, count: int, least: int) -> Iterator[tuple[int, ...]]:
    """Every ascending factorisation into ``count`` factors of at least ``least``."""
    if count == 1:
        if size >= least:
            yield (size,)
        return
    for factor in range(least, size + 1):
        if factor**count > size:
            return
        if size % factor == 0:
            for rest in _factorisations(size // factor, count - 1, factor):
                yield (factor, *rest)


def default_count(outputs: int, inputs: int) -> int:
    """How many modes a layer gets that names none: modes of about 4 to 8."""
    return max(1, round(log2(max(outputs, inputs, 2)) / 2.5))


def check_side(modes: Sequence[int], size: int, side: str, name: str) -> tuple[int, ...]:
    """The modes of one side as a tuple of int; ``side`` is "modes_out" or "modes_in".

    Raises
    ------
    NetworkError:
        a mode is not a positive integer, or the modes do not multiply to the layer's size.
    """
    where = f"layer {name!r}, {side}"
    found = tuple(modes)
    if not found or not all(_is_positive(mode) for mode in found):
        raise NetworkError(where, "are positive integers", found, "use modes of 1 or more")
    if prod(found) != size:
        kind = "outputs" if side == "modes_out" else "inputs"
        raise NetworkError(
            where,
            f"multiply to the layer's {size} {kind}",
            f"{found}, whose product is {prod(found)}",
            f"use modes such as {factorise(size, len(found))}",
        )
    return tuple(operator.index(mode) for mode in found)


def check_modes(
    modes_out: Sequence[int], modes_in: Sequence[int], outputs: int, inputs: int, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The modes of both sides, in pairs, as tuples of int.

    Raises
    ------
    NetworkError:
        a mode is not a positive integer, the modes do not multiply to the layer's size, or there
        are not equally many on both sides.
    """
    out = check_side(modes_out, outputs, "modes_out", name)
    in_ = check_side(modes_in, inputs, "modes_in", name)
    if len(out) != len(in_):
        raise NetworkError(
            f"layer {name!r}",
            "has as many output modes as input modes",
            f"{len(out)} output modes {out} and {len(in_)} input modes {in_}",
            f"use modes_out={factorise(outputs, len(in_))} or "
            f"modes_in={factorise(inputs, len(out))}",
        )
    return out, in_


def check_ranks(
    count: int,
    *,
    max_rank: int | None,
    ranks: Sequence[int] | None,
    name: str,
    one: str,
    all_of_them: str,
) -> tuple[int, ...] | None:
    """What was asked of ``count`` ranks, as a tuple of int, or None where nothing was.

    Arguments
    ---------
    one, all_of_them:
        What has a rank, and what there is one for each of: "bond", "2 bonds between 3 cores".

    Raises
    ------
    NetworkError:
        both are given, their number is wrong, or a rank is not a positive integer.
    """
    where = f"layer {name!r}"
    if max_rank is not None and ranks is not None:
        raise NetworkError(
            where,
            "is given max_rank or ranks",
            f"max_rank={max_rank} and ranks={ranks}",
            "drop one",
        )
    if ranks is not None and len(ranks) != count:
        raise NetworkError(
            f"{where}, ranks",
            f"are {count}: one for each of the {all_of_them}",
            f"{len(ranks)} ranks, {tuple(ranks)}",
            f"give {count} ranks",
        )
    if ranks is None and max_rank is None:
        return None
    asked = tuple(ranks) if ranks is not None else (max_rank,) * max(count, 1)
    for number, rank in enumerate(asked, 1):
        if not _is_positive(rank):
            raise NetworkError(
                f"{where}, {one} {number}",
                "has a positive integer as its rank",
                rank,
                "use 1 or more",
            )
    return tuple(operator.index(rank) for rank in asked[:count])  # type: ignore[arg-type]


def warn_clipped(
    name: str, asked: Sequence[int] | None, used: Sequence[int], what: str, stacklevel: int
) -> None:
    """One ``RankWarning`` for all ranks of a layer that were clipped."""
    clipped = [
        f"{what} {number}: asked {ask}, used {use}"
        for number, (ask, use) in enumerate(zip(asked or used, used, strict=True), 1)
        if use < ask
    ]
    if clipped:
        warnings.warn(
            f"layer {name!r}: ranks above the largest useful one were clipped "
            f"({'; '.join(clipped)})",
            RankWarning,
            stacklevel=stacklevel + 1,
        )


def chain_bounds(sizes: Sequence[int], asked: Sequence[int] | None) -> tuple[int, ...]:
    """The inner ranks of a train over modes of these sizes, none larger than is of use.

    A bond's unfolding has the product of the sizes to its left as rows and of those to its right as
    columns, and a neighbouring bond that is already narrow leaves less.
    """
    bonds = len(sizes) - 1
    used = list(asked) if asked is not None else [prod(sizes)] * bonds
    left = 1
    for bond in range(bonds):
        used[bond] = left = min(used[bond], left * sizes[bond])
    right = 1
    for bond in reversed(range(bonds)):
        used[bond] = right = min(used[bond], right * sizes[bond + 1])
    return tuple(used)


def useful_ranks(
    modes_out: Sequence[int],
    modes_in: Sequence[int],
    *,
    max_rank: int | None = None,
    ranks: Sequence[int] | None = None,
    name: str = "",
    stacklevel: int = 1,
) -> tuple[int, ...]:
    """The rank of each inner bond, none larger than is of use.

    A bond's unfolding has ``prod of m * n`` rows to its left and columns to its right, and a
    neighbouring bond that is already narrow leaves less: a larger rank would only add zeros. What
    was asked beyond that is clipped with one ``RankWarning`` for the layer.

    Arguments
    ---------
    max_rank, ranks:
        One rank for every inner bond, or one for each (modes - 1). Neither: the largest useful.
    stacklevel:
        Frames between this function and the caller to whom the warning is shown.

    Raises
    ------
    NetworkError:
        both are given, their number is wrong, or a rank is not a positive integer.
    """
    sizes = [m * n for m, n in zip(modes_out, modes_in, strict=True)]
    bonds = len(sizes) - 1
    asked = check_ranks(
        bonds,
        max_rank=max_rank,
        ranks=ranks,
        name=name,
        one="bond",
        all_of_them=f"{bonds} bonds between {bonds + 1} cores",
    )
    used = chain_bounds(sizes, asked)
    warn_clipped(name, asked, used, "bond", stacklevel + 1)
    return used


def _is_positive(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return operator.index(value) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False
