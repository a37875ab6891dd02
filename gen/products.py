"""Layers that multiply tensors element by element, as stages of products.

The engine takes its factors in an affine order: pair after pair, and in each pair one factor after
the other. So the two tensors of each pair lie equally far apart, and so do the pairs. Within a
tensor that is a matter of the order of its parts; where a pair lies in two tensors, one of these is
*tied* to the other: it lies at a fixed distance behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.images import Place
from drawbar.gen.layout import Layout
from drawbar.gen.network import Model
from drawbar.gen.order import Step
from drawbar.gen.planned import PlannedStage
from drawbar.gen.stage import Loop, Stage

#: The step of a stage of products.
PRODUCT = Step((), (), (), (), (), 0, 0, 0, 0, 0)


def product_stage(
    model: Model,
    number: int,
    placed: Sequence[Place],
    reads: Sequence[int],
    writes: int,
    config: EngineConfig,
    batch: int,
) -> PlannedStage:
    """The stage of a paired layer; its addresses come with those of its tensors (``affine``).

    Arguments
    ---------
    number:
        Of the layer.
    reads, writes:
        The plan's numbers of its tensors.

    Raises
    ------
    FitError:
        the engine has no products, or the tensors are none that it can multiply.
    """
    layer, sources = model.layers[number], model.sources[number]
    where = f"layer {layer.name!r}"
    if not config.products:
        raise FitError(
            f"{where}, engine {config.name!r}",
            "multiplies tensors only on an engine with products",
            "products = 0",
            "set products = 1 in the engine",
        )
    if batch > 1:
        raise FitError(where, "multiplies tensors of one sample at a time", batch, "use batch 1")
    for source in sources:
        if source.tensor and model.layers[source.tensor - 1].joined:
            raise FitError(
                where,
                "multiplies results of layers",
                "a concatenation",
                "multiply its parts, and join the products",
            )
        shape, steps = model.shapes[source.tensor], source.steps or (1,)
        if len(shape) != 1 or steps != (1,):
            raise FitError(
                where,
                "multiplies feature vectors, or contiguous parts of them",
                f"shape {shape}, steps {steps}",
                "flatten them",
            )
    offsets = [
        placed[source.tensor].origin + (source.starts[0] if source.starts else 0)
        for source in sources
    ]
    # A result in rows with gaps is made row by row.
    target = placed[number + 1]
    *rows, lanes = target.shape
    columns = [Loop(n, x=lanes, y=s) for n, s in zip(rows, target.strides, strict=False)]
    stage = Stage(
        k_loops=(Loop(len(sources)),),
        row_loops=(Loop(1),),
        column_loops=tuple(columns),
        lane_count=lanes,
        lane_x=1,
        lane_y=1,
        activation=layer.activation,
        layer=number,
        products=True,
    )
    return PlannedStage(
        stage=stage,
        step=PRODUCT,
        k_order=(),
        row_order=(),
        shared_order=(),
        column_order=(),
        block=(),
        ends_layer=True,
        reads=tuple(reads),
        writes=writes,
        x_offsets=tuple(offsets),
        y_offset=target.origin,
    )


def ties(stages: Sequence[PlannedStage], tensors: Sequence[Layout]) -> dict[int, tuple[int, int]]:
    """For each tied tensor, which one it follows, and how far behind that's start it begins.

    Raises
    ------
    FitError:
        the factors of a stage cannot lie as they must.
    """
    found: dict[int, tuple[int, int]] = {}
    for planned in stages:
        if not planned.stage.products or len(planned.reads) == 2:
            continue
        factors = list(zip(planned.reads, planned.x_offsets, strict=True))
        pairs = [factors[n : n + 2] for n in range(0, len(factors), 2)]
        # How far apart: as pairs within one tensor are, or such that the first one in two tensors
        # touch.
        distances = {abs(a[1] - b[1]) for a, b in pairs if a[0] == b[0]}
        apart = [pair for pair in pairs if pair[0][0] != pair[1][0]]
        if apart and not distances:
            (anchor, start), (_, own) = apart[0]
            distances = {tensors[anchor].size - start + own}
        if len(distances) > 1:
            raise _crooked(planned)
        for first, second in apart:
            (distance,) = distances
            # The second tensor goes behind the first, or the first behind the second.
            for (anchor, start), (tied, own) in ((first, second), (second, first)):
                offset = start + distance - own
                if _free(anchor, tied, offset, found, tensors):
                    found[tied] = (anchor, offset)
                    break
            else:
                raise _crooked(planned)
    return found


def _free(
    anchor: int,
    tied: int,
    offset: int,
    found: dict[int, tuple[int, int]],
    tensors: Sequence[Layout],
) -> bool:
    """Whether a tensor may be tied to another at this distance."""
    if tied in found or anchor in found or tied in {other for other, _ in found.values()}:
        return False
    end = offset + tensors[tied].size
    others = [(o, o + tensors[n].size) for n, (other, o) in found.items() if other == anchor]
    others.append((0, tensors[anchor].size))
    return offset >= 0 and all(end <= first or last <= offset for first, last in others)


def affine(planned: PlannedStage, bases: Sequence[int]) -> tuple[PlannedStage, Stage]:
    """The factors in the order of their addresses, and the stage with these.

    Raises
    ------
    FitError:
        the factors lie in no affine order.
    """
    places = [
        (bases[tensor] + offset, tensor, offset)
        for tensor, offset in zip(planned.reads, planned.x_offsets, strict=True)
    ]
    # Neither the factors of a pair nor the pairs have an order of their own.
    pairs = sorted(sorted(places[n : n + 2]) for n in range(0, len(places), 2))
    within = {second[0] - first[0] for first, second in pairs}
    between = {b[0][0] - a[0][0] for a, b in pairwise(pairs)}
    if len(within) > 1 or len(between) > 1:
        raise _crooked(planned)
    factors = (Loop(2, x=min(within)),)
    loops = (Loop(len(pairs), x=min(between)), *factors) if between else factors
    ordered = [place for pair in pairs for place in pair]
    planned = replace(
        planned,
        reads=tuple(tensor for _, tensor, _ in ordered),
        x_offsets=tuple(offset for _, _, offset in ordered),
    )
    return planned, replace(planned.stage, k_loops=loops, x_base=ordered[0][0])


def _crooked(planned: PlannedStage) -> FitError:
    return FitError(
        f"layer {planned.layer}, products",
        "has pairs of factors that lie equally far apart",
        f"tensors {planned.reads} at {planned.x_offsets}",
        "put the factors of all pairs but one into one tensor, in another order",
    )
