"""gen/config.py: validation, presets, the hash, TOML files."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from drawbar.gen import config as config_module
from drawbar.gen.config import EngineConfig, clog2
from drawbar.gen.errors import ConfigError
from drawbar.gen.presets import PRESETS, load_config

FIELDS = [field.name for field in dataclasses.fields(EngineConfig)]
#: A valid value for each field that is not its default.
OTHER: dict[str, int | str] = {
    "rows": 12,
    "lanes": 16,
    "data_width": 8,
    "acc_width": 41,
    "core_depth": 1025,
    "work_depth": 1025,
    "bias_depth": 257,
    "program_depth": 1025,
    "fetch_words": 4,
    "k_loops": 2,
    "row_loops": 2,
    "column_loops": 2,
    "count_bits": 15,
    "stages_held": 1,
    "work_blocks": 2,
    "tile_gap": 1,
    "counter_bits": 31,
    "fold": 2,
    "short_pipeline": 1,
    "products": 1,
    "link_window": 8,
    "clock_hz": 48_000_001,
    "baud": 2_999_999,
}


def test_clog2_counts_things() -> None:
    assert [clog2(n) for n in (1, 2, 3, 4, 5, 8, 9)] == [0, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("field", "value", "rule", "fix"),
    [
        ("rows", 0, "at least 1", "raise rows"),
        ("rows", 65, "between 1 and 64", "move rows"),
        ("rows", -3, "at least 1", "raise rows"),
        ("rows", 8.0, "an integer", "give rows as an integer"),
        ("rows", True, "an integer", "give rows as an integer"),
        ("rows", "8", "an integer", "give rows as an integer"),
        ("rows", None, "an integer", "give rows as an integer"),
        ("lanes", 12, "a power of two", "use 16"),
        ("lanes", 128, "between 1 and 64", "move lanes"),
        ("data_width", 12, "is 8 or 16", "use 16, or 8"),
        ("acc_width", 31, "between 32 and 53", "move acc_width"),
        ("acc_width", 54, "between 32 and 53", "move acc_width"),
        ("core_depth", 1, "between 2 and 1048576", "move core_depth"),
        ("work_depth", 1, "between 2 and 1048576", "move work_depth"),
        ("bias_depth", 1, "between 2 and 1048576", "move bias_depth"),
        ("program_depth", 63, "between 64 and 65536", "move program_depth"),
        ("k_loops", 5, "between 1 and 4", "move k_loops"),
        ("row_loops", 5, "between 1 and 4", "move row_loops"),
        ("column_loops", 7, "between 1 and 6", "move column_loops"),
        ("count_bits", 17, "between 4 and 16", "move count_bits"),
        ("stages_held", 2, "is 1 or 3", "use 3"),
        ("work_blocks", -1, "between 0 and 64", "move work_blocks"),
        ("work_blocks", 2, "where stages do not overlap", "use stages_held = 1"),
        ("tile_gap", 2, "between 0 and 1", "move tile_gap"),
        ("products", 2, "between 0 and 1", "move products"),
        ("counter_bits", 15, "between 16 and 32", "move counter_bits"),
        ("fold", 3, "a power of two", "use 4"),
        ("fold", 16, "between 1 and 8", "move fold"),
        ("fetch_words", 6, "a power of two", "use 8"),
        ("fetch_words", 64, "between 1 and 32", "move fetch_words"),
        ("link_window", 6, "a power of two", "use 8"),
        ("link_window", 1, "between 2 and 32", "move link_window"),
        ("link_window", 64, "between 2 and 32", "move link_window"),
        ("baud", 12_000_001, "at most a quarter of clock_hz", "use 12000000 or less"),
    ],
)
def test_a_bad_value_is_quoted_with_its_rule_and_fix(
    field: str, value: object, rule: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        EngineConfig(**{"name": "mine", field: value})  # type: ignore[arg-type]
    error = caught.value
    assert error.subject == f"engine configuration 'mine', {field}"
    assert rule in error.rule
    assert error.value is value
    assert fix in error.fix


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_valid_and_named(name: str) -> None:
    config = PRESETS[name]
    assert config.name == name
    assert dataclasses.replace(config) == config  # valid all over again
    assert config.data_width == (8 if name.endswith("-8bit") else 16)


def test_every_preset_has_an_8_bit_sibling_and_a_hash_of_its_own() -> None:
    wide = {name for name in PRESETS if not name.endswith("-8bit")}
    assert set(PRESETS) == wide | {f"{name}-8bit" for name in wide}
    assert len({config.hash for config in PRESETS.values()}) == len(PRESETS)


def test_large_has_the_sizes_that_the_design_compares_with() -> None:
    large = PRESETS["large"]
    assert (large.rows, large.lanes, large.multipliers) == (16, 16, 256)
    assert large.core_bytes == 1024 * 16 * 2
    assert large.work_bytes == 8192 * 16 * 2


def test_derived_sizes() -> None:
    config = EngineConfig(rows=6, lanes=8, core_depth=300, work_depth=512, bias_depth=100)
    assert config.multipliers == 48
    assert (config.lane_bits, config.row_bits) == (3, 3)
    assert config.work_elements == 4096
    assert (config.work_row_bits, config.work_address_bits) == (9, 12)
    assert (config.core_address_bits, config.bias_address_bits) == (9, 7)
    assert config.shift_bits == 6  # shifts 0..40
    assert (config.data_min, config.data_max) == (-32768, 32767)
    small = config.replace(data_width=8, acc_width=32)
    assert (small.element_bytes, small.data_min, small.data_max) == (1, -128, 127)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"lanes": 2, "work_blocks": 2}, "only with one lane"),
        ({"lanes": 1, "work_blocks": 3}, "divides work_depth, 1024"),
        ({"fetch_words": 2}, "is 1 where the engine holds one stage"),
        ({"work_depth": 1 << 18, "bias_depth": 1 << 12}, "fit 32 bits together"),
    ],
)
def test_what_an_engine_of_one_stage_cannot_be(changes: dict[str, int], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        EngineConfig(stages_held=1, **changes)


@pytest.mark.parametrize(
    ("changes", "rule", "fix"),
    [
        ({"fold": 4, "core_depth": 1022}, "is a multiple of fold, 4", "use 1024"),
        ({"fetch_words": 8, "program_depth": 100}, "is a multiple of fetch_words, 8", "use 104"),
    ],
)
def test_depths_of_memories_that_are_read_wide(
    changes: dict[str, int], rule: str, fix: str
) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        EngineConfig(**changes)
    assert fix in caught.value.fix


# -- hash ------------------------------------------------------------------------------------------


def test_the_name_is_not_part_of_the_hash() -> None:
    assert EngineConfig().hash == EngineConfig(name="other").hash
    assert len(EngineConfig().hash) == 16


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "name"])
def test_every_other_field_changes_the_hash(field: str) -> None:
    base = EngineConfig()
    if field == "data_width":
        base = base.replace(acc_width=40)
    if field == "work_blocks":
        base = base.replace(stages_held=1, lanes=1)
    changed = base.replace(**{field: OTHER[field]})
    assert changed != base
    assert changed.hash != base.hash


@pytest.mark.parametrize(
    ("name", "start"),
    [("ulx3s-25f", "c911804ab984"), ("icebreaker", "a5d61dd52e8f"), ("tiny", "f3bc4a79e6ef")],
)
def test_engines_of_this_revision_keep_their_hash(name: str, start: str) -> None:
    """Those that have nothing of what came later: their bitstreams and artefacts stay good."""
    assert config_module.HARDWARE_REVISION == 4
    assert PRESETS[name].hash.hex().startswith(start)
    assert {*config_module.LATER} < {*FIELDS}
    for field, before in config_module.LATER.items():
        assert getattr(PRESETS[name], field) == before


def test_the_hardware_revision_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = EngineConfig().hash
    monkeypatch.setattr(config_module, "HARDWARE_REVISION", config_module.HARDWARE_REVISION + 1)
    assert EngineConfig().hash != before


def test_the_hash_is_the_same_in_every_process() -> None:
    code = "from drawbar.gen.presets import PRESETS; print(PRESETS['large'].hash.hex())"
    for seed in ("0", "1"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert result.stdout.strip() == PRESETS["large"].hash.hex()


# -- replace and files -----------------------------------------------------------------------------


def test_replace_refuses_unknown_names_and_lists_the_known() -> None:
    with pytest.raises(ConfigError) as caught:
        PRESETS["small"].replace(row=4)
    assert caught.value.value == "row"
    for name in FIELDS:
        assert name in caught.value.fix


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_load_by_preset_name_and_by_value() -> None:
    assert load_config("tiny") is PRESETS["tiny"]
    config = EngineConfig(rows=3)
    assert load_config(config) is config


def test_load_a_file_over_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "rows = 4\nlanes = 16\n")
    assert load_config(path) == EngineConfig(name="mine", rows=4, lanes=16)
    assert load_config(str(path)) == load_config(path)


def test_load_a_file_over_a_preset(tmp_path: Path) -> None:
    path = write(tmp_path, 'preset = "large"\nname = "wider"\ncore_depth = 2048\n')
    assert load_config(path) == PRESETS["large"].replace(name="wider", core_depth=2048)


def test_an_empty_file_is_the_default_engine(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")).hash == EngineConfig().hash


@pytest.mark.parametrize(
    ("text", "subject", "value", "fix"),
    [
        ("rows = 4\nrow = 5\n", "engine configuration", "row", "rows"),
        ("rows = 0\n", "engine configuration 'mine', rows", "0", "raise rows"),
        ("rows = 4.5\n", "engine configuration 'mine', rows", "4.5", "as an integer"),
        ('rows = "4"\n', "engine configuration 'mine', rows", "4", "as an integer"),
        ("[rows]\nx = 1\n", "engine configuration 'mine', rows", "{'x': 1}", "as an integer"),
        ('preset = "huge"\n', "mine.toml, preset", "huge", "small"),
        ("preset = 3\n", "mine.toml, preset", "3", "small"),
        ('preset = ["small"]\n', "mine.toml, preset", "['small']", "small"),
        ("name = 3\n", "engine configuration 3, name", "3", "in quotes"),
        ("rows = \n", "mine.toml", "line 1", "mend the file"),
        ("rows = 4\nrows = 5\n", "mine.toml", "line 2", "mend the file"),
    ],
)
def test_a_bad_file_is_refused(
    tmp_path: Path, text: str, subject: str, value: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert subject in caught.value.subject
    assert value in str(caught.value.value)
    assert fix in caught.value.fix


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"rows = 4\n\xff\xfe")
    with pytest.raises(ConfigError, match="is valid TOML"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothere\.toml: exists; found no such file"):
        load_config(tmp_path / "nothere.toml")


def test_an_unknown_engine_lists_the_presets() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("enormous")
    assert caught.value.subject == "engine 'enormous'"
    for name in PRESETS:
        assert name in caught.value.fix


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.toml: can be read; found Is a directory"):
        load_config(tmp_path / "folder.toml")


def test_products_and_gaps_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"products.*use products = 0, or tile_gap = 0"):
        EngineConfig(products=1, tile_gap=1)
