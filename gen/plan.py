"""The planner: a model and an engine in, stages with addresses out, at the fewest cycles that it
can find.

Layer by layer, contraction orders come from ``gen.order`` from the best lower bound upwards, and a
beam search gives each of their stages a lane block and each tensor a layout (``gen.layout``). The
search of a layer stops when no further order can beat what was found. A plan whose cycles equal the
sum of the best lower bounds is proven optimal; ``Plan.proven`` says so.

Where no such plan fits work memory or reaches its bound, and to save work memory, orders also run
in slices (``gen.slicing``). Two buffers for inputs and outputs are a matter of addresses
(``gen.place``), but where they do not fit, of another plan.

A model whose cores, biases or program do not fit is planned for larger memories, and then runs in
passes (``gen.passes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, product

from drawbar.gen.arrange import NoBuffers
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, program_bound, program_cycles
from drawbar.gen.errors import FitError, InputError
from drawbar.gen.fit import NoLayout, NoRoom, share_core, shortages
from drawbar.gen.graph import plan_graph
from drawbar.gen.network import Model
from drawbar.gen.order import OrderSearch
from drawbar.gen.passes import in_passes
from drawbar.gen.place import NoPlaces, double, least_double
from drawbar.gen.planned import Plan, PlannedStage, core_matrix
from drawbar.gen.program import descriptor_words
from drawbar.gen.protocol import Space
from drawbar.gen.search import GOALS, RESCUE_ORDERS, Planner, layer_searches
from drawbar.gen.slicing import ENDLESS, order_stages, sliced_orders
from drawbar.gen.timeline import plan_streaming

__all__ = ["Plan", "PlannedStage", "core_matrix", "plan_model"]

#: What ``plan_model`` can minimise; with "memory", a plan may take so much longer than the fastest.
OBJECTIVES = ("cycles", "memory")
MOST_EXTRA_CYCLES = 0.10
#: The search for the least work memory ends within this part of it.
CLOSE = 1 / 64
#: For an error's words: orders whose slices are looked at, and the longest program that exists.
RESCUE_SCANNED = 32
MOST_PROGRAM = 1 << 16
#: Core vectors of the largest model that streams.
MOST_CORE = 1 << 20


def plan_model(
    model: Model,
    config: EngineConfig,
    *,
    batch: int = 1,
    minimise: str = "cycles",
    buffers: int | None = None,
    stream: bool = False,
) -> Plan:
    """Plan a model for an engine; deterministic.

    Arguments
    ---------
    batch:
        Samples that one run of the program takes.
    minimise:
        "cycles": the fastest plan that fits; it runs in slices only where nothing else fits, or is
        as fast.
        "memory": the plan that takes the least work memory among those found that take at most
        ``MOST_EXTRA_CYCLES`` more cycles than the fastest one would with work memory without end;
        if none of these fits, the fastest one that does.
    buffers:
        Places for inputs and outputs that runs use in turn, 1 or 2. Without it two, where that
        takes no more cycles and fits; but one to minimise memory.
    stream:
        Of a model whose cores, biases or program do not fit the engine's memories at once, they
        stream in while it computes. Without it that is an error. One that fits never does that.

    Raises
    ------
    FitError:
        the model does not fit the engine, or two buffers do not; the error says which memory is
        short, and by how many bytes. Of one that streams: a single stage is larger than a memory.
    InputError:
        there is no such objective, or no such number of buffers.
    """
    if batch < 1:
        raise FitError(f"model {model.name!r}", "has a batch of at least 1", batch, "raise batch")
    if minimise not in OBJECTIVES:
        raise InputError(
            "what to minimise", f"is one of {', '.join(OBJECTIVES)}", minimise, "use one of these"
        )
    if buffers not in (None, 1, 2):
        raise InputError("buffers of a plan", "are one or two", buffers, "use 1 or 2")
    try:
        return _whole(model, config, batch, minimise, buffers)
    except FitError as error:
        if not stream:
            raise
        return _streaming(model, config, batch, minimise, buffers, error)


def _streaming(
    model: Model,
    config: EngineConfig,
    batch: int,
    minimise: str,
    buffers: int | None,
    missing: FitError,
) -> Plan:
    """The plan in passes whose runs follow each other the fastest over the engine's serial line."""
    # An engine that holds one stage has 32 bits for both addresses of a result.
    bits = 32 - config.work_address_bits if config.stages_held == 1 else 20
    roomy = config.replace(bias_depth=1 << min(20, bits))

    def attempt(depth: int, buffers: int | None) -> Plan | None:
        """A plan with so many core vectors, no end of biases, and of program where it must."""
        for words in (config.program_depth, MOST_PROGRAM):
            larger = roomy.replace(core_depth=depth, program_depth=words)
            with suppress(FitError):
                return _whole(model, larger, batch, minimise, buffers)
        return None

    def streamed(depth: int) -> list[tuple[float, Plan]]:
        """Plans with so many core vectors, in passes: cycles from one run to the next, and plan."""
        plan = attempt(depth, buffers)
        found = [] if plan is None else [in_passes(plan, config)]
        if found and buffers is None and len(found[0].bases) == 2 and not _keeps_program(found[0]):
            # With one buffer it may.
            single = attempt(depth, 1)
            found += [] if single is None else [in_passes(single, config)]
        return [(plan_streaming(plan).period, plan) for plan in found]

    least = missing.core if isinstance(missing, NoRoom) else 0
    depth, most = max(config.core_depth, least), 0
    best: tuple[float, Plan] | None = None
    while depth <= MOST_CORE:
        found = streamed(depth)
        if not found and not most:
            # Is it for what can stream at all?
            largest = attempt(MOST_CORE, buffers)
            if largest is None:
                break
            most = largest.core_vectors
        if best is not None and (not found or min(period for period, _ in found) >= best[0]):
            break
        if found:
            best = min(found, key=lambda pair: pair[0])
            if plan_streaming(best[1]).limit != "compute":
                break
        if most and depth >= most:
            break
        # What computes longer than it loads may do with more cores.
        depth += max(1, depth // 4 // config.fold) * config.fold
    if best is None:
        raise missing
    return best[1]


def _keeps_program(plan: Plan) -> bool:
    return any(load.space == Space.PROGRAM for load in plan.loads)


def _whole(
    model: Model, config: EngineConfig, batch: int, minimise: str, buffers: int | None
) -> Plan:
    """The plan of a model that fits the engine's memories."""
    if not model.chain:
        return _graph(model, config, batch, minimise, buffers)
    searches = layer_searches(model, config, batch)
    plan = None
    if minimise == "memory":
        plan = _least_memory(model, config, batch, searches)
    if plan is None:
        plan = replace(_fastest(model, config, batch, searches), minimise=minimise)
    if buffers == 2 or (buffers is None and minimise == "cycles"):
        return _doubled(plan, searches, at_any_price=buffers == 2)
    return replace(plan, work_double=least_double(plan))


def _graph(
    model: Model, config: EngineConfig, batch: int, minimise: str, buffers: int | None
) -> Plan:
    """The plan of a graph of layers."""
    if minimise != "cycles":
        raise FitError(
            f"model {model.name!r}, least work memory",
            "is searched for chains of linear layers",
            "a graph of layers",
            "minimise cycles",
        )
    return plan_graph(model, config, batch=batch, buffers=buffers)


def _doubled(plan: Plan, searches: Sequence[OrderSearch], *, at_any_price: bool) -> Plan:
    """The plan with two buffers, or another one for the same model. Where there is none that takes
    no more cycles: at any price a slower one or an error, else the plan as it is, with one buffer.
    """
    try:
        return double(plan)
    except NoBuffers as error:
        missing = error
    config, batch = plan.config, plan.batch
    x, y = plan.tensors[0].size, plan.tensors[-1].size
    # What the other buffer keeps, and what a run may lose between its own input and output.
    for limit in (config.work_elements - x - y, config.work_elements - x - y - min(x, y)):
        for slicing, goal in product((False, True) if at_any_price else (False,), GOALS[:2]):
            with suppress(FitError):
                planner = Planner(
                    plan.model,
                    config,
                    batch,
                    goal,
                    slicing=slicing,
                    work_limit=limit,
                    most_cycles=ENDLESS if at_any_price else plan.total.total,
                    searches=searches,
                )
                found = double(replace(planner.plan(), minimise=plan.minimise))
                if at_any_price or found.total.total <= plan.total.total:
                    return found
    if at_any_price:
        raise missing
    return replace(plan, work_double=least_double(plan))


def _fastest(
    model: Model, config: EngineConfig, batch: int, searches: Sequence[OrderSearch]
) -> Plan:
    plan = _fastest_that_fits(model, config, batch, searches)
    # What the best orders would take with work memory without end.
    fronts = [search.prices(ENDLESS) for search in searches]
    bound = program_bound(share_core(fronts, config.core_depth)[0], config)
    if plan.proven and plan.bound <= bound:
        return plan
    # A faster order, or the paddings of a faster layout, do not fit work memory; in slices they
    # may.
    for goal in GOALS[:2]:
        with suppress(FitError):
            most = plan.total.total - 1
            planner = Planner(
                model, config, batch, goal, slicing=True, most_cycles=most, searches=searches
            )
            found = planner.plan()
            if found.total.total <= most:
                return found
    return plan


def _fastest_that_fits(
    model: Model, config: EngineConfig, batch: int, searches: Sequence[OrderSearch]
) -> Plan:
    missing: FitError | None = None
    for goal in GOALS:
        try:
            return Planner(model, config, batch, goal, searches=searches).plan()
        except (NoLayout, NoPlaces) as error:
            missing = error
        except NoRoom as error:
            missing = error
            break
    assert missing is not None
    for limit, goal in product(_limits(config), GOALS[:2]):
        with suppress(FitError):
            planner = Planner(
                model, config, batch, goal, slicing=True, work_limit=limit, searches=searches
            )
            return planner.plan()
    if isinstance(missing, NoLayout):
        missing = _explained(missing, model, config, batch)
    raise _with_slices(missing, config, searches)


def _limits(config: EngineConfig) -> list[int]:
    """Elements of work memory to plan within. Of single-port blocks some stay empty, so less and
    less.
    """
    whole = config.work_elements
    if not config.work_blocks:
        return [whole]
    return [whole * eighths // 8 for eighths in range(8, 2, -1)]


def _with_slices(
    missing: FitError, config: EngineConfig, searches: Sequence[OrderSearch]
) -> FitError:
    """The same error, with the program memory that slices would need where only that is short."""
    words = descriptor_words(config)
    stages = 0
    for search in searches:
        found = sliced_orders(
            search, config.core_depth, config.work_elements, MOST_PROGRAM // words, RESCUE_SCANNED
        )
        needs = [order_stages(order) for _, order in islice(found, RESCUE_ORDERS)]
        if not needs:
            return missing
        stages += min(needs)
    need = stages * words
    if not config.program_depth < need <= MOST_PROGRAM:
        return missing
    return NoRoom(
        missing.subject,
        missing.rule,
        f"{missing.value}; in slices, {need} program words, {need - config.program_depth} too many",
        f"{missing.fix}, or program_depth to at least {need} for slices",
        core=missing.core if isinstance(missing, NoRoom) else 0,
    )


def _least_memory(
    model: Model, config: EngineConfig, batch: int, searches: Sequence[OrderSearch]
) -> Plan | None:
    """The plan of the least work memory that is nearly as fast as any; None where none fits."""
    try:
        # An engine that holds one stage has 32 bits for both addresses of a result.
        bits = 32 - config.bias_address_bits - config.lane_bits if config.stages_held == 1 else 20
        roomy = config.replace(work_depth=1 << min(20, bits), work_blocks=0)
        fastest = _fastest(model, roomy, batch, searches)
    except FitError:
        # Not for work memory; the fastest plan's search will say why.
        return None
    # With more work memory descriptors are longer; that is not meant.
    cycles = sum(program_cycles([stage for _, stage in fastest.program], config), start=Cycles())
    most_cycles = int(cycles.total * (1 + MOST_EXTRA_CYCLES))

    def within(limit: int) -> Plan | None:
        for goal in GOALS[:2]:
            with suppress(FitError):
                planner = Planner(
                    model,
                    config,
                    batch,
                    goal,
                    slicing=True,
                    work_limit=limit,
                    most_cycles=most_cycles,
                    searches=searches,
                )
                plan = planner.plan()
                if plan.total.total <= most_cycles:
                    return replace(plan, minimise="memory")
        return None

    best = within(min(config.work_elements, fastest.work_peak))
    if best is None:
        return None
    low = batch * max(max(layer.inputs, layer.outputs) for layer in model.layers)
    high = best.work_peak
    while high - low > max(1, high * CLOSE):
        middle = (low + high) // 2
        plan = within(middle)
        if plan is None:
            low = middle
        else:
            best, high = plan, plan.work_peak
    return best


def _explained(missing: NoLayout, model: Model, config: EngineConfig, batch: int) -> FitError:
    """The same error, with what a plan that was found on a roomier engine needs."""
    # Memories and loops as large as they come, which takes an engine that holds three stages; core
    # memory is not what is short.
    roomy = config.replace(
        work_depth=1 << 20,
        work_blocks=0,
        stages_held=3,
        bias_depth=1 << 20,
        program_depth=1 << 16,
        k_loops=4,
        row_loops=4,
        column_loops=6,
    )
    plans = []
    for goal in GOALS[1:]:
        with suppress(NoLayout):
            plans.append(Planner(model, roomy, batch, goal).plan())
    if not plans:
        return missing
    shortest = min(plans, key=lambda plan: len(shortages(plan, config)))
    short = shortages(shortest, config)
    if not short:
        # It would have fitted, and was out of the narrower search's reach: nothing to raise.
        return missing
    found, fixes = zip(*short, strict=True)
    return FitError(missing.subject, missing.rule, ", ".join(found), "raise " + ", ".join(fixes))
