"""cocotb tests of a family's memories; run by test_vendor.py."""

from __future__ import annotations

import random

from cocotb_bench import for_each, signed, unit

#: Depth and width of memories, for each shape of a block of an ECP5 and of Gowin, and deeper than
#: any.
SHAPES = {
    "shape_36": (500, 40),
    "shape_18": (1000, 40),
    "shape_9": (2048, 17),
    "shape_4": (3000, 9),
    "shape_2": (8192, 5),
    "shape_1": (9000, 3),
    "stacked": (16385, 2),
}


#: Cycles of a read, in a short and in a long pipeline.
LATENCIES = (3, 4)


@for_each(name=list(SHAPES), latency=LATENCIES)
async def memory(dut, name: str, latency: int) -> None:
    """Both ends and places between: what was written, ``latency`` cycles after its address."""
    depth, width = SHAPES[name]
    memory = await unit(dut, f"{name}_{latency}")
    rng = random.Random(name)
    # Single bits of the address set, and all of them: no two words may be the same.
    places = {0, depth - 1} | {1 << bit for bit in range((depth - 1).bit_length())}
    places |= {rng.randrange(depth) for _ in range(20)}
    addresses = sorted(places)
    content = dict.fromkeys(addresses, 0)
    due: list[int | None] = [None] * latency
    for _ in range(400):
        expected = due.pop(0)
        if expected is not None:
            assert signed(memory.get("read_data"), width) == expected
        read, write = rng.sample(addresses, 2)
        value, mask = signed(rng.getrandbits(width), width), rng.getrandbits(1)
        memory.set(
            read_address=read,
            write_address=write,
            write_data=value & ((1 << width) - 1),
            write_mask=mask,
        )
        due.append(content[read])
        if mask:
            content[write] = value
        await memory.tick()
