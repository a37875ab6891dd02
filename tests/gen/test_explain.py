"""Explanations: stages add up, limits are what they say, and lost orders lost for their reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drawbar import plot_explanation
from drawbar.api import compile as compile_model
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError
from drawbar.gen.explain import Explanation, explain_artefact, explain_plan
from drawbar.gen.formats import dense_network, tt_network
from drawbar.gen.network import ContractionNetwork, Model
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS

RNG = np.random.default_rng(3)


def tt_layer(
    name: str, modes_in: tuple[int, ...], modes_out: tuple[int, ...], rank: int
) -> ContractionNetwork:
    ranks = [1, *[rank] * (len(modes_in) - 1), 1]
    return tt_network(
        name,
        [
            RNG.normal(size=(left, m, n, right))
            for left, m, n, right in zip(ranks, modes_out, modes_in, ranks[1:], strict=False)
        ],
    )


FC6 = Model("fc6", (tt_layer("fc6", (2, 7, 8, 8, 7, 4), (4, 4, 4, 4, 4, 4), 4),))
TWO = Model("two", (tt_layer("a", (4, 6, 5), (3, 4, 4), 3), tt_layer("b", (6, 8), (5, 2), 2)))


def one_stage(rows: int, k: int, columns: int, config: EngineConfig) -> Explanation:
    """A dense layer on a batch is one stage of these sizes."""
    model = Model("m", (dense_network("fc", RNG.normal(size=(rows, k))),))
    return explain_plan(plan_model(model, config, batch=columns))


@pytest.mark.parametrize("model", [FC6, TWO], ids=lambda model: model.name)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_adds_up(model: Model, batch: int) -> None:
    plan = plan_model(model, PRESETS["large"].replace(work_depth=1 << 16), batch=batch)
    found = explain_plan(plan)
    start = 0
    for stage in found.stages:
        assert stage.start == start
        assert stage.ideal + sum(stage.losses.values()) == pytest.approx(stage.cycles.total)
        assert min(stage.losses.values()) >= -1e-9
        assert stage.rows * stage.k * stage.columns == stage.multiplications
        assert stage.row_tiles * stage.lane_tiles * stage.k == stage.cycles.busy
        start += stage.cycles.total
    assert start == found.total.total == plan.total.total
    assert sum(layer.cycles for layer in found.layers) == start
    assert [layer.order for layer in found.layers] == [
        plan.layer_text(n) for n in range(len(model.layers))
    ]


@pytest.mark.parametrize(
    ("rows", "k", "columns", "limit"),
    [
        (16, 600, 16, "array"),
        (5, 600, 16, "ragged rows"),
        (16, 600, 5, "ragged lanes"),
        (64, 2, 64, "drain"),
        (4, 4, 4, "pipeline"),
    ],
)
def test_what_limits_a_stage(rows: int, k: int, columns: int, limit: str) -> None:
    config = EngineConfig(rows=4, lanes=4, core_depth=4096, work_depth=1 << 14)
    (stage,) = one_stage(rows, k, columns, config).stages
    assert stage.limit == limit


def test_long_descriptors_limit_a_stage() -> None:
    config = EngineConfig(rows=1, lanes=4, k_loops=4, row_loops=4, column_loops=6)
    (stage,) = one_stage(1, 2, 4, config).stages
    assert stage.limit == "descriptor"


def test_the_orders_that_lost_to_the_best_plan_of_fc6() -> None:
    plan = plan_model(FC6, PRESETS["large"])
    (layer,) = explain_plan(plan, losers=8).layers
    assert layer.order == "X (G5G6) G4 G3 (G1G2)"
    assert len(layer.lost) == 8
    assert layer.order not in [lost.order for lost in layer.lost]
    bounds = [lost.cycles_bound for lost in layer.lost]
    assert bounds == sorted(bounds)
    config = plan.config
    for lost in layer.lost:
        reasons = {
            "core memory": lost.core_bytes > config.core_bytes,
            "work memory": lost.work_bytes > config.work_bytes,
            "cycles": lost.more > 0,
            "layout": lost.more < 0,
            "tie": lost.more == 0,
        }
        assert reasons[lost.cause], lost
    assert {"cycles", "core memory"} <= {lost.cause for lost in layer.lost}


def test_less_core_memory_makes_the_winner_lose() -> None:
    ample = explain_plan(plan_model(FC6, PRESETS["large"])).layers[0].order
    tight = PRESETS["large"].replace(core_depth=228)
    (layer,) = explain_plan(plan_model(FC6, tight)).layers
    assert layer.order != ample
    (lost,) = [lost for lost in layer.lost if lost.order == ample]
    assert lost.cause == "core memory"
    assert lost.more < 0
    assert f"{lost.core_bytes - tight.core_bytes:,} bytes" in lost.why


def test_an_artefact_says_the_same_of_its_stages() -> None:
    config = PRESETS["tiny"].replace(core_depth=2048)
    calibration = RNG.normal(size=(8, TWO.inputs))
    artefact = compile_model(TWO, config, calibration=calibration)
    planned, loaded = explain_plan(plan_model(TWO, config)), explain_artefact(artefact)
    assert loaded.stages == planned.stages
    assert loaded.total == planned.total
    assert (loaded.source, planned.source) == ("artefact", "plan")
    assert all(not layer.lost for layer in loaded.layers)
    assert all(layer.lost for layer in planned.layers)


def test_json_holds_all_of_it() -> None:
    found = explain_plan(plan_model(TWO, PRESETS["tiny"].replace(core_depth=2048)))
    facts = json.loads(json.dumps(found.as_dict()))
    assert facts["cycles"]["total"] == found.total.total
    assert [stage["limit"] for stage in facts["stages"]] == [s.limit for s in found.stages]
    assert facts["layers"][0]["lost"][0]["order"] == found.layers[0].lost[0].order


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_the_picture(tmp_path: Path, suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    found = explain_plan(plan_model(TWO, PRESETS["tiny"].replace(core_depth=2048)))
    target = plot_explanation(found, tmp_path / "new" / f"plan{suffix}")
    assert target.read_bytes().startswith(magic)
    if suffix == ".svg":
        text = target.read_text()
        assert text.count('<g id="axes_') == 2
        assert "Roofline" in text


def test_a_picture_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = explain_plan(plan_model(TWO, PRESETS["tiny"].replace(core_depth=2048)))
    with pytest.raises(InputError, match=r"\.png, \.svg"):
        plot_explanation(found, tmp_path / "plan.doc")
