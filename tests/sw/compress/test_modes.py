"""Modes and ranks: balanced factorisations, checks, clipping."""

from __future__ import annotations

import re
from math import prod

import pytest

from drawbar.gen.errors import NetworkError, RankWarning
from drawbar.sw.compress.modes import check_modes, default_count, factorise, useful_ranks


@pytest.mark.parametrize(
    ("size", "count", "modes"),
    [
        (784, 4, (4, 7, 7, 4)),
        (256, 3, (4, 8, 8)),
        (64, 3, (4, 4, 4)),
        (25088, 6, (4, 4, 7, 8, 7, 4)),
        (10, 3, (1, 5, 2)),
        (13, 1, (13,)),
        (1, 2, (1, 1)),
    ],
)
def test_factorise_balances(size: int, count: int, modes: tuple[int, ...]) -> None:
    found = factorise(size, count)
    assert prod(found) == size
    assert len(found) == count
    assert found == modes


def test_factorise_has_the_least_sum() -> None:
    def sums(size: int, count: int) -> set[int]:
        if count == 1:
            return {size}
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        return {d + rest for d in divisors for rest in sums(size // d, count - 1)}

    for size in range(1, 61):
        for count in (1, 2, 3):
            modes = factorise(size, count)
            assert prod(modes) == size
            assert sum(modes) == min(sums(size, count))


@pytest.mark.parametrize(("size", "count"), [(0, 2), (-4, 2), (4, 0), (4.0, 2), (True, 1)])
def test_factorise_rejects(size: int, count: int) -> None:
    with pytest.raises(NetworkError, match="is a positive integer"):
        factorise(size, count)


def test_default_count_gives_modes_of_about_four_to_eight() -> None:
    assert [default_count(n, n) for n in (1, 10, 64, 256, 784, 4096)] == [1, 1, 2, 3, 4, 5]


def test_wrong_product_names_layer_modes_product_size_and_a_factorisation() -> None:
    with pytest.raises(NetworkError) as caught:
        check_modes((4, 8, 8), (4, 7, 7, 5), 256, 784, "fc1")
    error = caught.value
    assert error.subject == "layer 'fc1', modes_in"
    assert error.rule == "multiply to the layer's 784 inputs"
    assert error.value == "(4, 7, 7, 5), whose product is 980"
    assert error.fix == "use modes such as (4, 7, 7, 4)"


@pytest.mark.parametrize("modes", [(), (-4, -8, 8), (0, 8, 8), (4.0, 8, 8), (True, 32, 8)])
def test_modes_are_positive_integers(modes: tuple[int, ...]) -> None:
    with pytest.raises(NetworkError, match=r"layer 'fc1', modes_out: are positive integers"):
        check_modes(modes, (4, 4, 4), 256, 64, "fc1")


def test_modes_are_equally_many() -> None:
    with pytest.raises(NetworkError, match=re.escape("modes_out=(16, 16) or modes_in=(4, 4, 4)")):
        check_modes((4, 8, 8), (8, 8), 256, 64, "fc1")


def test_useful_ranks_are_bounded_from_both_sides() -> None:
    assert useful_ranks((4, 8, 8), (4, 4, 4)) == (16, 32)
    assert useful_ranks((2, 2, 2, 2), (2, 2, 2, 2)) == (4, 16, 4)
    assert useful_ranks((8,), (8,)) == ()
    assert useful_ranks((8,), (8,), max_rank=3) == ()


def test_ranks_that_fit_are_kept_without_a_warning() -> None:
    assert useful_ranks((4, 8, 8), (4, 4, 4), max_rank=16) == (16, 16)
    assert useful_ranks((4, 8, 8), (4, 4, 4), ranks=(16, 32)) == (16, 32)


def test_clipping_names_layer_bond_asked_and_used() -> None:
    pattern = re.escape("layer 'fc1': ") + ".*" + re.escape("(bond 1: asked 20, used 16)")
    with pytest.warns(RankWarning, match=pattern):
        assert useful_ranks((4, 8, 8), (4, 4, 4), max_rank=20, name="fc1") == (16, 20)
    with pytest.warns(RankWarning, match=r"bond 1: asked 17, used 16; bond 2: asked 99, used 32"):
        assert useful_ranks((4, 8, 8), (4, 4, 4), ranks=(17, 99), name="fc1") == (16, 32)


def test_a_narrow_neighbour_bounds_a_rank() -> None:
    with pytest.warns(RankWarning, match="bond 2: asked 16, used 4"):
        assert useful_ranks((2, 2, 4, 4), (2, 2, 4, 4), ranks=(1, 16, 16)) == (1, 4, 16)
    with pytest.warns(RankWarning, match="bond 2: asked 16, used 4"):
        assert useful_ranks((4, 4, 2, 2), (4, 4, 2, 2), ranks=(16, 16, 1)) == (16, 4, 1)


@pytest.mark.parametrize("rank", [0, -3, 2.0, True])
def test_ranks_are_positive_integers(rank: int) -> None:
    with pytest.raises(NetworkError, match=r"layer 'fc1', bond 1: has a positive integer"):
        useful_ranks((4, 8, 8), (4, 4, 4), max_rank=rank, name="fc1")
    with pytest.raises(NetworkError, match=r"layer 'fc1', bond 2: has a positive integer"):
        useful_ranks((4, 8, 8), (4, 4, 4), ranks=(4, rank), name="fc1")
    with pytest.raises(NetworkError, match="bond 1"):
        useful_ranks((8,), (8,), max_rank=rank)


def test_number_of_ranks() -> None:
    with pytest.raises(NetworkError, match="one for each of the 2 bonds between 3 cores"):
        useful_ranks((4, 8, 8), (4, 4, 4), ranks=(1, 4, 4, 1), name="fc1")
    with pytest.raises(NetworkError, match="is given max_rank or ranks"):
        useful_ranks((4, 8, 8), (4, 4, 4), max_rank=4, ranks=(4, 4), name="fc1")
