"""Program encoding: stages to 32-bit words and back.

A program is a sequence of descriptors, one for each stage. A descriptor is a packed record whose
field widths follow from the engine configuration (``descriptor_fields``, the one definition that
the encoder, the decoder and the hardware share), padded to whole words, least significant word
first.

Address generators move by *deltas*: when loop j advances, every loop inside it has just ended, so
the address changes by ``stride[j] - sum of (count - 1) * stride`` over the loops inside. One adder
for each stream serves any nesting.

Where the engine holds one stage, the deltas follow the rest of the descriptor as tables, a word for
each loop of the issue side (``x``), then a word for each loop of the drain side (``y`` and
``bias``), each table's last word being its stream's base: so the engine writes them to small
memories as they come, and needs no registers for them.

The core needs no deltas: its vectors lie in the order in which they are used. When a column loop or
the lane tile advances, the address goes on if that loop is shared, and back to where the current
core matrix begins if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import ArtefactError
from drawbar.gen.stage import Loop, Stage, check_stage, lane_skew

#: Bits of a stage's wait for the words of the stage before.
WAIT_BITS = 8
ACTIVATION_CODES = {"none": 0, "relu": 1}


def issue_levels(config: EngineConfig) -> int:
    """Loop levels of the issue side: reduction, row tile, lane tile, columns (innermost first)."""
    return config.k_loops + 2 + config.column_loops


def drain_levels(config: EngineConfig) -> int:
    """Loop levels of the drain side: rows, lane tile, columns (innermost first)."""
    return config.row_loops + 1 + config.column_loops


def head_fields(config: EngineConfig) -> list[tuple[str, int]]:
    """Names and widths of the fields of a descriptor that the engine holds in registers, least
    significant first. Counts are stored minus one; bit j of ``shared`` is for column loop j,
    innermost first; ``fold`` is a logarithm.
    """
    address = config.work_address_bits
    overlap, skewed = config.stages_held > 1, config.lanes > 1
    some = [
        ("last", 1, True),
        ("activation", 1, True),
        ("bias_enable", 1, True),
        # Where stages do not overlap, none waits for another.
        ("wait", WAIT_BITS, overlap),
        ("shift", config.shift_bits, True),
        ("rows_last", max(1, config.row_bits), True),
        ("lanes_last", max(1, config.lane_bits), True),
        ("shared", config.column_loops, True),
        ("fold", config.fold_bits.bit_length(), config.fold > 1),
        ("products", 1, bool(config.products)),
        ("core_base", config.core_address_bits, True),
        ("x_base", address, overlap),
        ("x_skew", config.work_row_bits, skewed),
        ("y_base", address, overlap),
        ("y_skew", config.work_row_bits, skewed),
        ("fold_skew", config.work_row_bits, config.fold > 1),
        ("bias_base", config.bias_address_bits, overlap),
    ]
    fields = [(name, width) for name, width, there in some if there]
    fields += [(f"issue_count_{j}", config.count_bits) for j in range(issue_levels(config))]
    fields += [(f"drain_count_{j}", config.count_bits) for j in range(drain_levels(config))]
    if overlap:
        fields += [(f"x_delta_{j}", address) for j in range(issue_levels(config))]
        fields += [(f"y_delta_{j}", address) for j in range(drain_levels(config))]
        fields += [
            (f"bias_delta_{j}", config.bias_address_bits) for j in range(drain_levels(config))
        ]
    return fields


def head_words(config: EngineConfig) -> int:
    """32-bit words of a descriptor before its tables."""
    return -(-sum(width for _, width in head_fields(config)) // 32)


def descriptor_fields(config: EngineConfig) -> list[tuple[str, int]]:
    """Names and widths of all of a descriptor's fields, least significant first; what nothing is in
    is called ``unused_N``.
    """
    fields = head_fields(config)
    if config.stages_held > 1:
        return fields

    def pad(used: int) -> None:
        if used % 32:
            fields.append((f"unused_{len(fields)}", -used % 32))

    address, bias = config.work_address_bits, config.bias_address_bits
    pad(sum(width for _, width in fields))
    rows = [f"delta_{j}" for j in range(issue_levels(config))] + ["base"]
    for row in rows:
        fields.append((f"x_{row}", address))
        pad(address)
    rows = [f"delta_{j}" for j in range(drain_levels(config))] + ["base"]
    for row in rows:
        fields += [(f"y_{row}", address), (f"bias_{row}", bias)]
        pad(address + bias)
    return fields


def descriptor_words(config: EngineConfig) -> int:
    """32-bit words of one descriptor, as many as fill whole reads."""
    bits = sum(width for _, width in descriptor_fields(config))
    return -(-bits // (32 * config.fetch_words)) * config.fetch_words


def _deltas(counts: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Delta of each level (innermost first) from counts and strides."""
    deltas = []
    span = 0
    for count, stride in zip(counts, strides, strict=True):
        deltas.append(stride - span)
        span += (count - 1) * stride
    return deltas


def _inner_first(loops: Sequence[Loop], depth: int) -> list[Loop]:
    return [*reversed(loops), *[Loop(1)] * (depth - len(loops))]


def descriptor_values(stage: Stage, config: EngineConfig, *, last: bool) -> dict[str, int]:
    """Values of every descriptor field, before they are cut to their widths."""
    lanes = stage.lanes(config)
    lane_tiles = stage.run_tiles(config)
    k = _inner_first(stage.k_loops, config.k_loops)
    rows = _inner_first(stage.row_loops, config.row_loops)
    columns = _inner_first(stage.column_loops, config.column_loops)
    lane_tile = Loop(lane_tiles, lanes * stage.lane_x, lanes * stage.lane_y, stage.lane_bias)
    issue = [*k, Loop(stage.row_tiles(config)), lane_tile, *columns]
    drain = [*rows, lane_tile, *columns]
    values = {
        "last": int(last),
        "activation": ACTIVATION_CODES[stage.activation],
        "bias_enable": int(stage.bias_base is not None),
        "wait": stage.wait,
        "shift": stage.shift,
        "rows_last": stage.row_vectors - (stage.row_tiles(config) - 1) * config.rows - 1,
        "lanes_last": stage.lane_count - (lane_tiles - 1) * lanes - 1,
        "shared": sum(loop.shared << j for j, loop in enumerate(columns)),
        **({"fold": stage.fold.bit_length() - 1} if config.fold > 1 else {}),
        **({"products": int(stage.products)} if config.products else {}),
        "core_base": stage.core_base,
        "x_base": stage.x_base,
        "x_skew": (lane_skew(config, stage.lane_x) or 0) if stage.lane_count > 1 else 0,
        "y_base": stage.y_base,
        "y_skew": (lane_skew(config, stage.lane_y) or 0) if stage.lane_count > 1 else 0,
        "fold_skew": stage.fold_y // config.lanes,
        "bias_base": stage.bias_base or 0,
    }
    issue_counts = [loop.count for loop in issue]
    drain_counts = [loop.count for loop in drain]
    values |= {f"issue_count_{j}": count - 1 for j, count in enumerate(issue_counts)}
    values |= {f"drain_count_{j}": count - 1 for j, count in enumerate(drain_counts)}
    for stream, counts, strides in (
        ("x", issue_counts, [loop.x for loop in issue]),
        ("y", drain_counts, [loop.y for loop in drain]),
        ("bias", drain_counts, [loop.bias for loop in drain]),
    ):
        values |= {f"{stream}_delta_{j}": d for j, d in enumerate(_deltas(counts, strides))}
    return values


def encode(stages: Sequence[Stage], config: EngineConfig) -> np.ndarray:
    """Program words, ``uint32``; the last descriptor carries the end flag.

    Raises
    ------
    FitError:
        a stage that the engine cannot run.
    """
    words: list[int] = []
    for number, stage in enumerate(stages):
        check_stage(stage, config, f"stage {number}")
        values = descriptor_values(stage, config, last=number == len(stages) - 1)
        packed = 0
        offset = 0
        for name, width in descriptor_fields(config):
            packed |= (values.get(name, 0) & ((1 << width) - 1)) << offset
            offset += width
        words += [(packed >> (32 * i)) & 0xFFFFFFFF for i in range(descriptor_words(config))]
    return np.array(words, np.uint32)


def decode(words: np.ndarray, config: EngineConfig) -> list[Stage]:
    """Stages of a program, up to its end flag: the inverse of ``encode``, as the engine reads it.

    Counts, strides (modulo the memory's size), bases and flags come back; ``layer`` does not, as
    the engine has no layers.
    """
    stages = []
    size = descriptor_words(config)
    for start in range(0, len(words), size):
        chunk = [int(w) for w in words[start : start + size]]
        if len(chunk) < size:
            break
        packed = sum(word << (32 * i) for i, word in enumerate(chunk))
        values = {}
        for name, width in descriptor_fields(config):
            values[name] = packed & ((1 << width) - 1)
            packed >>= width
        stages.append(_stage_of(values, config))
        if values["last"]:
            return stages
    raise ArtefactError(
        "program",
        "ends with a descriptor that carries the end flag",
        f"{len(words)} words without one",
        "compile again",
    )


def end_after(words: np.ndarray, stage: int, config: EngineConfig) -> np.ndarray:
    """A copy of a program that ends after its stage of this number."""
    result = np.array(words, np.uint32)
    # "last" is the first field, so bit 0 of the descriptor's first word.
    result[stage * descriptor_words(config)] |= np.uint32(1)
    return result


def _strides(counts: Sequence[int], deltas: Sequence[int], modulus: int) -> list[int]:
    """Strides of each level (innermost first) from counts and deltas, modulo the address space."""
    strides = []
    span = 0
    for count, delta in zip(counts, deltas, strict=True):
        stride = (delta + span) % modulus
        strides.append(stride)
        span += (count - 1) * stride
    return strides


def _stage_of(values: dict[str, int], config: EngineConfig) -> Stage:
    issue = [values[f"issue_count_{j}"] + 1 for j in range(issue_levels(config))]
    drain = [values[f"drain_count_{j}"] + 1 for j in range(drain_levels(config))]
    address, bias = 1 << config.work_address_bits, 1 << config.bias_address_bits
    x = _strides(issue, [values[f"x_delta_{j}"] for j in range(len(issue))], address)
    y = _strides(drain, [values[f"y_delta_{j}"] for j in range(len(drain))], address)
    b = _strides(drain, [values[f"bias_delta_{j}"] for j in range(len(drain))], bias)
    k_count, row_count = config.k_loops, config.row_loops
    lane_tiles = issue[k_count + 1]

    def columns(j: int) -> Loop:
        return Loop(
            issue[k_count + 2 + j],
            x[k_count + 2 + j],
            y[row_count + 1 + j],
            b[row_count + 1 + j],
            shared=bool(values["shared"] >> j & 1),
        )

    def stride(skew: int) -> int:
        return skew * config.lanes + 1 if config.lanes > 1 else x[k_count + 1]

    fold = 1 << values.get("fold", 0)
    lanes = config.lanes // fold
    rows = [Loop(drain[j], y=y[j], bias=b[j]) for j in reversed(range(row_count))]
    row_count_found = prod(loop.count for loop in rows)
    if -(-row_count_found // config.rows) != issue[k_count]:
        raise ArtefactError(
            "program",
            f"drains the row vectors that it issues, {issue[k_count]} tiles of {config.rows}",
            f"{row_count_found} row vectors",
            "compile again",
        )
    return Stage(
        k_loops=tuple(Loop(issue[j], x=x[j]) for j in reversed(range(k_count))),
        row_loops=tuple(rows),
        column_loops=tuple(columns(j) for j in reversed(range(config.column_loops))),
        lane_count=(lane_tiles - 1) * lanes + values["lanes_last"] + 1,
        lane_x=stride(values.get("x_skew", 0)),
        lane_y=stride(values.get("y_skew", 0)) if config.lanes > 1 else y[row_count],
        lane_bias=b[row_count],
        x_base=values["x_base"],
        y_base=values["y_base"],
        core_base=values["core_base"],
        bias_base=values["bias_base"] if values["bias_enable"] else None,
        products=bool(values.get("products", 0)),
        fold=fold,
        fold_y=values["fold_skew"] * config.lanes + lanes if fold > 1 else 0,
        shift=values["shift"],
        wait=values.get("wait", 0),
        activation=next(
            name for name, code in ACTIVATION_CODES.items() if code == values["activation"]
        ),
    )
