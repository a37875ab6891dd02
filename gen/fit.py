"""Whether a model fits an engine, and if not, what is short and by how much."""

from __future__ import annotations

from collections.abc import Sequence

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.order import OrderSearch
from drawbar.gen.planned import Plan
from drawbar.gen.program import descriptor_words


class NoRoom(FitError):
    """Work memory, or core memory with that little work memory, is too small for any order.

    ``core`` is what the smallest orders need of core memory, in vectors; 0 where work memory is
    what is short.
    """

    def __init__(self, subject: str, rule: str, value: object, fix: str, core: int = 0) -> None:
        super().__init__(subject, rule, value, fix)
        self.core = core


class NoLayout(FitError):
    """The sizes fit, but no layout was found."""


def check_room(
    model: Model,
    config: EngineConfig,
    batch: int,
    searches: Sequence[OrderSearch],
    work_limit: int,
    spare: int = 0,
) -> list[int]:
    """Core vectors of each layer's smallest order within so many work elements, after a check that
    the memories can hold the model, and ``spare`` core vectors besides; a layout may still need
    some more of them.
    """
    vector = config.rows * config.element_bytes
    needs = []
    for search in searches:
        need = search.least_work()
        if need > work_limit:
            raise NoRoom(
                f"layer {search.network.name!r}, batch {batch}",
                f"needs at most the engine's {config.work_bytes} bytes of work memory",
                f"{need * config.element_bytes} bytes in its smallest order, "
                f"{(need - config.work_elements) * config.element_bytes} too many",
                f"raise work_depth to at least {-(-need // config.lanes)}, or use smaller ranks"
                " or a smaller batch",
            )
        core = search.least_core(work_limit)
        assert core is not None
        needs.append(core)
    total = sum(needs) + spare
    for search, core in zip(searches, needs, strict=True):
        if core > config.core_depth:
            raise NoRoom(
                f"layer {search.network.name!r}, batch {batch}",
                f"needs at most the engine's {config.core_bytes} bytes of core memory",
                f"{core * vector} bytes in its smallest order within {config.work_bytes} bytes "
                f"of work memory, {(core - config.core_depth) * vector} too many",
                f"raise core_depth to at least {core}, or use smaller ranks",
                core=total,
            )
    if total > config.core_depth:
        largest = max(range(len(needs)), key=needs.__getitem__)
        raise NoRoom(
            f"model {model.name!r}, batch {batch}",
            f"needs at most the engine's {config.core_bytes} bytes of core memory",
            f"{total * vector} bytes in its smallest orders within {config.work_bytes} bytes of "
            f"work memory, {(total - config.core_depth) * vector} too many; most of it in layer "
            f"{searches[largest].network.name!r}",
            f"raise core_depth to at least {total}, or use smaller ranks there",
            core=total,
        )
    bias = sum(search.least_bias() for search in searches)
    if bias > config.bias_depth:
        over = (bias - config.bias_depth) * config.lanes * config.acc_width
        raise FitError(
            f"model {model.name!r}, batch {batch}",
            f"needs at most the engine's {config.bias_depth} bias vectors",
            f"{bias}, {bias - config.bias_depth} too many ({-(-over // 8)} bytes)",
            f"raise bias_depth to at least {bias}, or use smaller layers",
        )
    return needs


def share_core(fronts: Sequence[Sequence[tuple[int, int]]], depth: int) -> tuple[int, list[int]]:
    """Core vectors for each layer, such that the sum of the layers' bounds is the least.

    Arguments
    ---------
    fronts:
        For each layer, what its orders need: (core vectors, bound in cycles), fewest vectors first.
    depth:
        Core vectors for all layers together; their smallest orders fit.

    Returns
    -------
    The sum of the bounds, and each layer's share.
    """
    # After each layer: sums of vectors and of bounds, fewest vectors first, and their shares.
    sums: list[tuple[int, int, list[int]]] = [(0, 0, [])]
    for front in fronts:
        found = sorted(
            (vectors + core, total + bound, [*shares, core])
            for vectors, total, shares in sums
            for core, bound in front
            if vectors + core <= depth
        )
        sums = []
        for vectors, total, shares in found:
            if not sums or total < sums[-1][1]:
                sums.append((vectors, total, shares))
    _, total, shares = sums[-1]
    return total, shares


def no_layout(layer: ContractionNetwork, config: EngineConfig, batch: int, tried: int) -> NoLayout:
    """The error of a search that found no layout in so many orders."""
    return NoLayout(
        f"layer {layer.name!r}, batch {batch}",
        f"has a layout within {config.work_bytes} bytes of work memory, {config.bias_depth} "
        f"bias vectors, and {config.k_loops}/{config.row_loops}/{config.column_loops} "
        "k/row/column loops",
        f"none among the {tried} best orders, paddings included",
        "raise work_depth, bias_depth or the loops of the engine",
    )


def shortages(plan: Plan, config: EngineConfig) -> list[tuple[str, str]]:
    """What a plan for a roomier engine needs more than this one has, and what to raise."""
    short = []
    words = len(plan.program) * descriptor_words(config)
    needs = [
        ("bias_depth", plan.bias_vectors, "bias vectors"),
        ("program_depth", words, "program words"),
    ]
    for name in ("k", "row", "column"):
        most = max(len(getattr(planned.stage, f"{name}_loops")) for planned in plan.stages)
        needs.append((f"{name}_loops", most, f"{name} loops"))
    if plan.work_peak > config.work_elements:
        over = (plan.work_peak - config.work_elements) * config.element_bytes
        short.append(
            (
                f"{plan.work_bytes_peak} bytes of work memory with paddings, {over} too many",
                f"work_depth to at least {-(-plan.work_peak // config.lanes)}",
            )
        )
    for field, need, text in needs:
        have = getattr(config, field)
        if need > have:
            short.append((f"{need} {text}, {need - have} too many", f"{field} to at least {need}"))
    return short
