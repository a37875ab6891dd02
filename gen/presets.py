"""Engines by name, and engines from files."""

from __future__ import annotations

import tomllib
from pathlib import Path

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ConfigError


def _eight_bit(config: EngineConfig) -> EngineConfig:
    return config.replace(name=f"{config.name}-8bit", data_width=8, acc_width=32)


_SIXTEEN_BIT = (
    EngineConfig(name="tiny", rows=4, lanes=4, core_depth=512, work_depth=512, bias_depth=128),
    EngineConfig(name="small", rows=8, lanes=8, core_depth=2048, work_depth=2048, bias_depth=256),
    EngineConfig(
        # As many multipliers as TIE (ISCA 2019): 16 processing elements of 16.
        name="large",
        rows=16,
        lanes=16,
        core_depth=1024,
        work_depth=8192,
        bias_depth=512,
        program_depth=2048,
        fetch_words=8,
    ),
    EngineConfig(
        # The same multipliers and memories, as 4 x 64, 8 x 32 or 16 x 16: whatever suits a stage.
        name="wide",
        rows=4,
        lanes=64,
        fold=4,
        short_pipeline=1,
        core_depth=4096,
        work_depth=2048,
        bias_depth=128,
        program_depth=2048,
        fetch_words=8,
    ),
    EngineConfig(
        name="ulx3s-85f",
        rows=8,
        lanes=16,
        core_depth=4096,
        work_depth=4096,
        bias_depth=256,
        clock_hz=140_000_000,
    ),
    # Engines of the boards of constraints/: the largest of a useful shape that the chip holds, at a
    # clock that its PLL makes and that place-and-route meets.
    EngineConfig(
        name="ulx3s-25f",
        rows=7,
        lanes=4,
        core_depth=1024,
        work_depth=4096,
        bias_depth=256,
        clock_hz=150_000_000,
    ),
    EngineConfig(
        name="ulx3s-45f",
        rows=8,
        lanes=8,
        core_depth=2048,
        work_depth=4096,
        bias_depth=256,
        clock_hz=60_000_000,
    ),
    EngineConfig(
        name="icebreaker",
        # The multipliers, three quarters of the block RAM, and the single-port RAM of a UP5K.
        rows=8,
        lanes=1,
        core_depth=512,
        work_depth=65536,
        bias_depth=256,
        program_depth=512,
        acc_width=32,
        k_loops=1,
        row_loops=2,
        column_loops=2,
        count_bits=10,
        stages_held=1,
        work_blocks=4,
        tile_gap=1,
        counter_bits=20,
        link_window=2,
        clock_hz=40_500_000,
    ),
    EngineConfig(
        name="tang-nano-9k",
        # Its flip-flops are what is scarce: two copies of a descriptor would be a sixth of them.
        rows=8,
        lanes=1,
        core_depth=1024,
        work_depth=4096,
        bias_depth=256,
        count_bits=12,
        stages_held=1,
        counter_bits=24,
        link_window=2,
        clock_hz=40_500_000,
        baud=2_000_000,
    ),
    EngineConfig(
        name="tang-nano-20k",
        rows=4,
        lanes=4,
        core_depth=1024,
        work_depth=4096,
        bias_depth=256,
        clock_hz=40_500_000,
        baud=2_000_000,
    ),
)

#: Engines by name. Each also exists with 8-bit data, as ``NAME-8bit``.
PRESETS: dict[str, EngineConfig] = {
    c.name: c for base in _SIXTEEN_BIT for c in (base, _eight_bit(base))
}


def load_config(source: str | Path | EngineConfig) -> EngineConfig:
    """The configuration that ``source`` names: a preset, or a TOML file.

    A TOML file holds parameters of ``EngineConfig`` at its top level, and may name a preset to
    start from with ``preset = "small"``.
    """
    if isinstance(source, EngineConfig):
        return source
    if str(source) in PRESETS:
        return PRESETS[str(source)]
    path = Path(source)
    if path.suffix != ".toml":
        raise ConfigError(
            f"engine {str(source)!r}",
            "is a preset or a .toml file",
            source,
            f"use one of {', '.join(sorted(PRESETS))}",
        )
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"engine file {path}", "exists", "no such file", "give the path of a TOML file"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"engine file {path}", "can be read", error.strerror, "give the path of a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"engine file {path}", "is valid TOML", error, "mend the file at that place"
        ) from None
    preset = fields.pop("preset", None)
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise ConfigError(
            f"engine file {path}, preset",
            "names a preset",
            preset,
            f"use one of {', '.join(sorted(PRESETS))}",
        )
    base = PRESETS[preset] if preset else EngineConfig()
    return base.replace(**{"name": path.stem, **fields})
