"""Benchmarks: the layers are the published ones, rows are honest, and the tools' suites run."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod

import pytest
from small_engines import ENGINES
from typer.testing import CliRunner

import drawbar
from drawbar import hardware_suites
from drawbar.gen.cli.main import app
from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import InputError
from drawbar.gen.fpga.boards import BoardSpec
from drawbar.gen.fpga.family import RESOURCES
from drawbar.gen.fpga.fit import left_out, usage
from drawbar.gen.plan import plan_model
from drawbar.gen.presets import PRESETS, load_config
from drawbar.layer_suites import (
    ETTE_LAYERS,
    FC6,
    RANK_LAYERS,
    TIE_LAYERS,
    Layer,
    enlarged,
    fitting_engine,
    reshaped,
    run_layers,
    shapes,
)
from drawbar.streaming_suite import demo_like_model, stream_rows
from drawbar.suites import SUITES, run_suite
from drawbar.sw.compress.demo_model import RECIPES

SMALL = Layer("small", (4, 5, 4), (2, 3, 4), (1, 3, 2, 1), known=(("ideal", 7),))


def test_the_function_stays_a_function() -> None:
    """No module of the package has the name of a public function: importing it would hide it."""
    assert callable(drawbar.bench)
    assert callable(drawbar.bench)
    for name in drawbar.__all__:
        first = getattr(drawbar, name)
        assert getattr(drawbar, name) is first


@pytest.mark.parametrize("layer", [*TIE_LAYERS, *RANK_LAYERS, *ETTE_LAYERS], ids=lambda x: x.name)
def test_layers_are_well_formed(layer: Layer) -> None:
    network = layer.model().layers[0]
    assert (network.modes_in, network.modes_out) == (layer.modes_in, layer.modes_out)
    assert network.ranks == layer.ranks
    cores = len(layer.modes_in) + (len(layer.modes_out) if layer.format == "tensor-train" else 0)
    assert len(network.cores) == cores
    assert (prod(layer.modes_in), prod(layer.modes_out)) in {
        (25088, 4096), (4096, 4096), (57600, 256), (57600, 1024),
    }  # fmt: skip


def test_rows_are_exact_and_say_what_they_are() -> None:
    (row,) = run_layers([SMALL], PRESETS["tiny"], batch=3, device="golden")
    assert row["cycles_measured"] == row["cycles_predicted"]
    assert row["cycles_per_inference"] * 3 == row["cycles_measured"]
    assert row["mismatches"] == 0
    assert row["compression"] == 80 * 24 / (4 * 2 * 3 + 5 * 3 * 3 * 2 + 4 * 4 * 2)
    assert 0 < row["utilisation"] <= 1
    assert row["known"] == {"ideal": 7}
    json.dumps(row)


def test_a_mismatch_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["drawbar.layer_suites"]
    golden = module.run_artefact
    monkeypatch.setattr(module, "run_artefact", lambda artefact, x: golden(artefact, x) + 1)
    (row,) = run_layers([SMALL], PRESETS["tiny"], batch=1, device="golden")
    assert row["mismatches"] == 2 * 24


def test_what_does_not_fit_keeps_its_error() -> None:
    config = PRESETS["tiny"].replace(core_depth=8)
    (row,) = run_layers([SMALL], config, batch=1, device="golden")
    assert row["error"]["error"] == "FitError"
    assert "core" in row["error"]["rule"]
    assert "cycles_measured" not in row


def test_memories_grow_only_where_they_must() -> None:
    config = load_config("large")
    assert fitting_engine(TIE_LAYERS, config, 1) == {}
    # Rank 16 of FC6 needs more than 32 KB of cores, and slices make do with the work memory; a
    # batch needs more work memory only.
    assert fitting_engine(RANK_LAYERS, config, 1).keys() == {"core_depth"}
    assert fitting_engine([SMALL], PRESETS["tiny"], 40).keys() == {"work_depth"}


def test_an_enlarged_engine_says_so() -> None:
    config = enlarged(PRESETS["tiny"], work_depth=1024, core_depth=256)
    assert config.name == "tiny, core_depth=256, work_depth=1024"
    assert (config.core_depth, config.work_depth) == (256, 1024)
    assert enlarged(PRESETS["tiny"]) == PRESETS["tiny"]


def test_other_shapes_have_as_much_of_everything() -> None:
    base = load_config("large")
    assert reshaped(base, 1) == base
    for factor in (2, 4):
        shape = reshaped(base, factor)
        assert (shape.rows * factor, shape.lanes) == (base.rows, base.lanes * factor)
        assert shape.multipliers == base.multipliers
        assert (shape.core_bytes, shape.work_bytes) == (base.core_bytes, base.work_bytes)
        assert shape.bias_depth * shape.lanes == base.bias_depth * base.lanes
        assert str(shape.lanes) in shape.name


def test_wider_shapes_serve_the_starved_layers() -> None:
    """More lanes move the operand bound, and the plans follow."""
    for layer in ETTE_LAYERS:
        cycles = [
            plan_model(layer.model(), reshaped(load_config("large"), factor)).total.total
            for factor in (1, 2)
        ]
        assert cycles[1] < cycles[0]


@pytest.mark.parametrize(
    ("layer", "cycles", "most"),
    [
        # 4 % above the ideal.
        (RANK_LAYERS[0], 4_032, 1.04 * 3_984),
        (RANK_LAYERS[3], 1_324, 1.04 * 1_280),
        (ETTE_LAYERS[0], 741, 900),
        (ETTE_LAYERS[1], 352, 480),
        (ETTE_LAYERS[2], 2_549, 4_500),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_an_engine_that_folds_serves_the_starved_layers(
    layer: Layer, cycles: int, most: float
) -> None:
    plan = plan_model(layer.model(), load_config("wide"))
    assert plan.total.total == cycles <= most
    assert cycles < plan_model(layer.model(), load_config("large")).total.total


def test_an_engine_that_folds_loses_nothing_on_the_others() -> None:
    large = load_config("large")
    folding = shapes(large)[-2]
    for layer in TIE_LAYERS:
        plans = [plan_model(layer.model(), config) for config in (folding, large)]
        assert plans[0].total.total <= plans[1].total.total


@pytest.mark.parametrize(
    ("layer", "most"),
    list(zip(TIE_LAYERS, (12_600, 4_140, 7_500, 5_570, 7_600, 5_620), strict=True)),
    ids=lambda value: getattr(value, "name", None),
)
def test_the_fewest_cycles_of_tie(layer: Layer, most: int) -> None:
    assert plan_model(layer.model(), load_config("wide")).total.total <= most


def test_the_shapes_end_with_one_that_has_them_all() -> None:
    square, *_, lanes, folding, short = shapes(load_config("large"))
    assert (square.rows, square.lanes) == (16, 16) == (folding.rows * 4, folding.lanes // 4)
    assert folding.fold == 4
    assert folding.replace(fold=1, name=lanes.name) == lanes
    assert short.replace(name=folding.name, short_pipeline=0) == folding
    assert short.replace(name="wide") == load_config("wide")


def test_shapes_need_rows_to_give_away() -> None:
    with pytest.raises(InputError, match="7 x 4"):
        run_suite("shapes", engine="ulx3s-25f")


def test_rows_say_what_bounds_a_layer_and_what_two_buffers_take() -> None:
    (row,) = run_layers([SMALL], PRESETS["tiny"], batch=1, device="golden")
    assert 0 < row["operand_bound"] <= row["cycles_measured"]
    assert (row["buffers"], row["work_bytes_double"] > row["work_bytes_peak"]) == (2, True)


def test_streams_are_predicted_to_the_cycle() -> None:
    config = ENGINES[0]
    rows = stream_rows([(SMALL.model(), config, pace) for pace in (1, 4)], runs=8)
    assert [(row["byte_cycles"], row["buffers"]) for row in rows] == [
        (1, 1), (1, 2), (4, 1), (4, 2),
    ]  # fmt: skip
    for row in rows:
        assert row["mismatches"] == 0
        assert row["cycles_measured"] == row["cycles_predicted"]
        assert row["period_measured"] == row["period_predicted"]
        assert row["idle"] == row["period_measured"] - row["cycles_measured"] >= row["gap_least"]
        assert row["runs"] == 8
    assert rows[0]["speed_up"] == rows[2]["speed_up"] == 1
    assert min(rows[1]["speed_up"], rows[3]["speed_up"]) > 1
    json.dumps(rows)


def test_the_model_of_the_streaming_suite_is_the_demos() -> None:
    recipe = RECIPES["mnist"]
    layers = demo_like_model().layers
    assert [layer.modes_in for layer in layers[:2]] == [recipe.modes_in, recipe.modes_1]
    assert [layer.modes_out for layer in layers[:2]] == [recipe.modes_1, recipe.modes_2]
    assert [layer.ranks[1:-1] for layer in layers[:2]] == [recipe.ranks_1, recipe.ranks_2]
    assert layers[2].outputs == 10


def test_wrong_periods_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "model": "m", "byte_cycles": 1, "buffers": 2, "batch": 1, "cycles_predicted": 9,
        "cycles_measured": 9, "cycles_in": 1, "cycles_out": 1, "period_predicted": 10,
        "period_measured": 10.0, "idle": 1, "speed_up": 1.0, "mismatches": 0,
    }  # fmt: skip
    for change, code in (({}, 0), ({"period_measured": 11.0}, 3), ({"mismatches": 1}, 3)):
        monkeypatch.setattr(drawbar, "bench", lambda *_, change=change, **__: [{**row, **change}])
        for options in ([], ["--json"]):
            assert (
                CliRunner().invoke(app, ["bench", "--suite", "streaming", *options]).exit_code
                == code
            )


@pytest.mark.parametrize("name", ["nonsense", "Tie"])
def test_unknown_suites_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="tie, ranks, ette"):
        run_suite(name)


def test_options_that_a_suite_lacks_are_refused() -> None:
    with pytest.raises(InputError, match="leave batch out"):
        run_suite("area", batch=2)
    with pytest.raises(InputError, match="leave engine out"):
        run_suite("timing", engine="tiny")
    with pytest.raises(
        InputError, match=r"takes batch; found minimise 'memory'.*leave minimise out"
    ):
        run_suite("streaming", minimise="memory")


def test_every_suite_is_in_the_help() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from drawbar.gen.cli import main; main()", "bench", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert all(name in result.stdout for name in SUITES)


def test_estimates_are_held_against_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six builds; multipliers and block RAM to the last one, the rest to within a tenth."""
    change = {"luts": 1.0, "ffs": 1.0, "dsps": 0, "brams": 0}

    def packed(board: BoardSpec, config: EngineConfig, beat: object = None) -> dict[str, int]:
        used = usage(config, board.chip_family)
        exact = {kind: used[kind] + int(change[kind]) for kind in ("dsps", "brams")}
        return {kind: round(used[kind] * change[kind]) for kind in ("luts", "ffs")} | exact

    monkeypatch.setattr(hardware_suites, "packed_design", packed)
    rows = run_suite("estimates")
    assert len({row["board"] for row in rows}) == 6
    assert len(rows) == 6 * len(RESOURCES)
    assert all(row["passed"] and abs(row["value"]) < 0.01 for row in rows)
    for kind, wrong in (("luts", 1.12), ("luts", 0.9), ("dsps", 1), ("brams", -1)):
        monkeypatch.setitem(change, kind, wrong)
        failed = [row for row in run_suite("estimates") if not row["passed"]]
        assert {row["resource"] for row in failed} == {kind}
        assert len(failed) == 6
        monkeypatch.setitem(change, kind, 1.0 if kind == "luts" else 0)
    monkeypatch.setitem(change, "ffs", 1.5)
    result = CliRunner().invoke(app, ["bench", "--suite", "estimates"], env={"COLUMNS": "200"})
    assert result.exit_code == 3
    assert "ulx3s-85f, 8 x 16, flip-flops: estimated" in result.stdout
    assert "within 10%" in result.stdout


@pytest.mark.slow
def test_timing_and_area() -> None:
    """A 4 x 4 board reaches its clock with the best of the seeds, and with a short pipeline another
    one, with the flip-flops less that are expected; a 4 x 4 engine has its cells.
    """
    rows = {row["name"]: row["value"] for row in hardware_suites.timing_suite(seeds=(1, 2))}
    flip_flops = []
    for more, least in (("", 130), (", short pipeline", 90)):
        name = f"serial board 4 x 4, 16 bit{more}"
        clocks = [rows[f"{name}, clock on ECP5-25F speed 6, seed {seed}"] for seed in (1, 2)]
        assert max(clocks) >= least
        flip_flops.append(rows[f"{name}, FF"])
    less = left_out(load_config("tiny").replace(short_pipeline=1))
    assert flip_flops[0] - flip_flops[1] == pytest.approx(less, rel=0.2)
    cells = hardware_suites.area_suite(engine="tiny")
    area = {row["name"].split(", ")[-1]: row["value"] for row in cells}
    assert area["multipliers"] == 16
    assert area["DSP"] >= 16
    assert min(area["LUT"], area["FF"], area["block RAM"], area["memories"]) > 0


def test_least_memory() -> None:
    """VGG-FC6 in 96 KiB of work memory, for hardly more cycles; on the golden board."""
    (row,) = run_layers((FC6,), load_config("large"), batch=1, minimise="memory", device="golden")
    assert row["work_bytes_peak"] <= 96 * 1024
    assert row["cycles_measured"] == row["cycles_predicted"] <= 1.1 * 12_601
    assert row["mismatches"] == 0
