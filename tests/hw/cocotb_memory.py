"""cocotb tests of BankedMemory, VectorAddress and WorkMemory; run by test_memory.py."""

from __future__ import annotations

import random

from cocotb_bench import for_each, pack, signed, unit, unpack

from drawbar.gen.config import EngineConfig
from drawbar.gen.pipeline import pipeline

#: Banks, depth and width of every banked memory, and the cycles of a read.
BANKED = {
    "program": (1, 6, 32, 4),
    "core": (3, 5, 8, 4),
    "bias": (4, 8, 20, 4),
    "short": (3, 7, 9, 3),
}

#: Engines whose core vectors are chosen by fold.
CHOICE = {
    "choice": EngineConfig(rows=3, lanes=8, data_width=8, fold=8),
    "choice_short": EngineConfig(rows=3, lanes=4, data_width=8, fold=4, short_pipeline=1),
}
#: Work memories for folded results.
FOLDED = {
    "folded": EngineConfig(lanes=8, data_width=8, work_depth=6, fold=4),
    "folded_short": EngineConfig(lanes=8, data_width=8, work_depth=6, fold=4, short_pipeline=1),
}
#: Lanes of each work memory, and whether the pipeline is short.
WORK = {f"{lanes}{'s' * short}": (lanes, short) for short in (0, 1) for lanes in (1, 2, 4, 8, 16)}

_WORK_DEPTHS = {1: 5, 2: 7, 4: 8, 8: 6, 16: 5}


def work_config(name: str) -> EngineConfig:
    """A work memory whose depth is a power of two in one case only."""
    lanes, short = WORK[name]
    width = 16 if lanes in (2, 16) else 8
    return EngineConfig(
        lanes=lanes, data_width=width, work_depth=_WORK_DEPTHS[lanes], short_pipeline=short
    )


@for_each(name=list(BANKED))
async def banked_memory(dut, name: str) -> None:
    """So many cycles to the data; a write is seen by a read of the next cycle."""
    banks, depth, width, latency = BANKED[name]
    memory = await unit(dut, name)
    rng = random.Random(name)
    content = [[0] * banks for _ in range(depth)]
    for address in range(depth):
        memory.set(write_address=address, write_data=0, write_mask=(1 << banks) - 1)
        await memory.tick()
    expected: list[list[int] | None] = [None] * latency
    for _ in range(600):
        due = expected.pop(0)
        if due is not None:
            assert unpack(memory.get("read_data"), width, banks) == due
        read, write = rng.randrange(depth), rng.randrange(depth)
        value, mask = rng.getrandbits(width), rng.choice((0, rng.getrandbits(banks)))
        memory.set(read_address=read, write_address=write, write_data=value, write_mask=mask)
        expected.append(list(content[read]))
        for bank in range(banks):
            if mask >> bank & 1:
                content[write][bank] = signed(value, width)
        await memory.tick()


@for_each(name=list(CHOICE))
async def core_vectors(dut, name: str) -> None:
    """A vector for each group of lanes, of any fold, in every cycle."""
    config = CHOICE[name]
    pipe = pipeline(config)
    vectors = await unit(dut, name)
    rng = random.Random(name)
    rows, groups, width = config.rows, config.fold, config.data_width
    late: list[list[list[int]]] = []  # what the banks have, by cycle
    expected: list[list[int] | None] = [None] * pipe.core_read
    for _ in range(400):
        due = expected.pop(0)
        if due is not None:
            assert unpack(vectors.get("o"), width, rows * groups) == due
        fold = rng.randint(0, config.fold_bits)
        first = rng.randrange(groups >> fold) << fold
        late.append(
            [
                [rng.randint(config.data_min, config.data_max) for _ in range(rows)]
                for _ in range(groups)
            ]
        )
        own = [first + (g << fold) // groups for g in range(groups)]
        expected.append([value for v in own for value in late[-1][v]])
        vectors.set(first=first, fold=fold)
        if len(late) > pipe.bank_read:
            vectors.set(i=pack([v for one in late[-1 - pipe.bank_read] for v in one], width))
        await vectors.tick()


@for_each(name=list(FOLDED))
async def folded_results(dut, name: str) -> None:
    """Results of any fold, skew and start are where they belong."""
    config = FOLDED[name]
    pipe = pipeline(config)
    work = await unit(dut, name)
    rng = random.Random(name)
    lanes, width, elements = config.lanes, config.data_width, config.work_elements
    content: list[int | None] = [None] * elements
    folded = 0
    for _ in range(600):
        fold, skew, fold_skew = rng.randint(0, 2), rng.randint(0, 3), rng.randint(0, 3)
        start = rng.randrange(elements)
        own = lanes >> fold
        addresses = [
            start + lane % own * (skew * lanes + 1) + lane // own * (fold_skew * lanes + own)
            for lane in range(lanes)
        ]
        vector = [rng.getrandbits(width) for _ in range(lanes)]
        mask = [int(a < elements) for a in addresses]
        folded += fold > 0 and sum(mask) > lanes // 2
        for a, value, marked in zip(addresses, vector, mask, strict=True):
            if marked:
                content[a] = value
        work.set(write_skew=skew, write_fold=fold, write_fold_skew=fold_skew)
        await work.tick()
        work.set(write_start=start, write_data=pack(vector, width), write_mask=pack(mask, 1))
        await work.tick()
        work.set(write_mask=0)
    assert folded > 20
    await work.tick(pipe.work_access)
    for element in range(elements):
        work.set(read_start=element, read_plain=1)
        await work.tick(pipe.work_read)
        if content[element] is not None:
            assert int(work.bits("read_data")[-width:], 2) == content[element], element


def element_addresses(config: EngineConfig, start: int, skew: int) -> list[int]:
    """Element address of every lane."""
    stride = skew * config.lanes + 1 if config.lanes > 1 else 1
    size = 1 << config.work_address_bits
    return [(start + lane * stride) % size for lane in range(config.lanes)]


@for_each(name=list(WORK))
async def vector_address(dut, name: str) -> None:
    """Every skew with every start, in random order, one a cycle."""
    config = work_config(name)
    lanes, latency = config.lanes, pipeline(config).work_access
    address = await unit(dut, f"address_{name}")
    rng = random.Random(name)
    cases = [
        (skew, start)
        for skew in range(1 << config.work_row_bits)
        for start in range(1 << config.work_address_bits)
    ]
    rng.shuffle(cases)
    plain = [rng.random() < 0.2 for _ in cases]
    for n in range(len(cases) + latency):
        if n >= latency:
            skew, start = cases[n - latency]
            rows = [0] * lanes
            for element in element_addresses(config, start, 0 if plain[n - latency] else skew):
                rows[element % lanes] = element // lanes
            got = address.get("rows")
            assert got == pack(rows, config.work_row_bits), (skew, start)
            if lanes > 1:
                assert address.get("offset") == start % lanes, (skew, start)
        # A start goes with the skew of the cycle before it, unless it is plain.
        if n == 0:
            address.set(skew=cases[0][0])
            await address.tick()
        if n + 1 < len(cases):
            address.set(skew=cases[n + 1][0])
        if n < len(cases):
            address.set(start=cases[n][1], plain=plain[n])
        await address.tick()


@for_each(name=list(WORK))
async def work_memory(dut, name: str) -> None:
    """A vector in and one out in every cycle, of any skew and start.

    Data comes ``work_read`` cycles after its start. A read sees the writes that started before it,
    and in simulation not the one that starts with it.
    """
    config = work_config(name)
    lanes, width, elements = config.lanes, config.data_width, config.work_elements
    work = await unit(dut, f"work_{name}")
    rng = random.Random(name)
    content: list[int] = [0] * elements
    for element in range(elements):
        content[element] = rng.getrandbits(width)
        work.set(write_start=element, write_data=content[element], write_mask=1)
        await work.tick()

    read_skew = write_skew = 0
    expected: list[list[int | None] | None] = [None] * pipeline(config).work_read
    seen_together = 0
    for _ in range(1200):
        due = expected.pop(0)
        if due is not None:
            bits = work.bits("read_data")
            for lane, value in enumerate(due):
                # Lanes past the end of a memory whose depth is no power of two read anything.
                if value is not None:
                    got = bits[(lanes - 1 - lane) * width : (lanes - lane) * width]
                    assert got == f"{value:0{width}b}", (lane, due)

        start = rng.randrange(elements)
        plain = rng.random() < 0.3
        reads = element_addresses(config, start, 0 if plain else read_skew)
        expected.append([content[e] if e < elements else None for e in reads])

        write_start = start if rng.random() < 0.3 else rng.randrange(elements)
        writes = element_addresses(config, write_start, write_skew)
        vector = [rng.getrandbits(width) for _ in range(lanes)]
        # Writes past the end are masked, as of a ragged lane tile.
        chosen = rng.choice((0, (1 << lanes) - 1, rng.getrandbits(lanes)))
        mask = [chosen >> lane & 1 and e < elements for lane, e in enumerate(writes)]
        for e, value, marked in zip(writes, vector, mask, strict=True):
            if marked:
                content[e] = value
                seen_together += e in reads
        work.set(
            read_start=start,
            read_plain=plain,
            write_start=write_start,
            write_data=pack(vector, width),
            write_mask=pack(mask, 1),
        )
        # The skews of this cycle are those of the next one's starts.
        if rng.random() < 0.7:
            read_skew = write_skew = rng.getrandbits(config.work_row_bits)
        if rng.random() < 0.3:
            write_skew = rng.getrandbits(config.work_row_bits)
        work.set(read_skew=read_skew, write_skew=write_skew)
        await work.tick()
    assert seen_together > 20


@for_each(name=["1", "4", "4s"])
async def work_memory_survives_reset(dut, name: str) -> None:
    config = work_config(name)
    pipe = pipeline(config)
    work = await unit(dut, f"work_{name}")
    for element in range(config.work_elements):
        work.set(write_start=element, write_data=element + 1, write_mask=1)
        await work.tick()
    work.set(write_mask=0)
    await work.tick(pipe.work_access)
    await work.bench.reset()
    for element in range(config.work_elements):
        work.set(read_start=element)
        await work.tick(pipe.work_read)
        assert work.get("read_data") % (1 << config.data_width) == element + 1
