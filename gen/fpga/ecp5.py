"""Lattice ECP5: yosys, nextpnr-ecp5, ecppack."""

from __future__ import annotations

from collections.abc import Sequence

from drawbar.gen.fpga.family import Family, Part, Pin, blocks, lut_ram_cost
from drawbar.gen.fpga.pll import PllLimits

#: ECP5 and ECP5-5G Family Data Sheet (FPGA-DS-02012), table of sysCLOCK PLL timing; dividers:
#: sysCLOCK PLL Design and User Guide (FPGA-TN-02200).
_PLL = PllLimits(
    reference=range(1, 129),
    feedback=range(1, 129),
    output=range(1, 129),
    feedback_after_output=True,
    input_mhz=(8, 400),
    detector_mhz=(3.125, 400),
    vco_mhz=(400, 800),
    clock_mhz=(3.125, 400),
)
#: Of the clock against the length of wires when nextpnr places; nextpnr's own is 10. With it an
#: engine of 28 multipliers on a 25F came from 140 to 144 MHz.
_TIMING_WEIGHT = 25
#: Bits and words that a block can have, and what yosys reckons for one block (found by trial:
#: tests/gen/fpga/test_fit.py has the memories on either side).
_BRAM_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
_BRAM_COST = 137


#: Those that ``hw.vendor.ecp5`` makes of memories that fit the words of one block.
BLOCK_SHAPES = _BRAM_SHAPES[1:]


def block_shape(width: int, depth: int) -> tuple[int, int] | None:
    """Bits and words of the blocks that a memory is made of, side by side; None where synthesis
    decides: it is deeper than a block, or cheaper in LUT RAM.
    """
    bits, words = next((s for s in BLOCK_SHAPES if depth <= s[1]), (0, 0))
    if not bits or lut_ram_cost(width, depth) < _BRAM_COST * -(-width // bits):
        return None
    return bits, words


class Ecp5(Family):
    """ECP5 without SERDES."""

    name = "ecp5"
    title = "Lattice ECP5"
    # The 12F is a 25F with another identifier.
    parts = {
        part.name: part
        for part in (
            Part("LFE5U-12F", 24288, 24288, 28, 56, "--12k"),
            Part("LFE5U-25F", 24288, 24288, 28, 56, "--25k"),
            Part("LFE5U-45F", 43848, 43848, 72, 108, "--45k"),
            Part("LFE5U-85F", 83640, 83640, 156, 208, "--85k"),
        )
    }
    cells = {
        "LUT": ("LUT4",),
        "FF": ("TRELLIS_FF",),
        "carry": ("CCU2C",),
        "DSP": ("MULT18X18D",),
        "block RAM": ("DP16KD",),
        "LUT RAM": ("TRELLIS_DPR16X4",),
    }
    resources = {
        "luts": {"TRELLIS_COMB": 1},
        "dsps": {"MULT18X18D": 1},
        "brams": {"DP16KD": 1},
    }
    bram_bits = 18432
    router = "nextpnr-ecp5"
    packer = "ecppack"
    constraints_suffix = ".lpf"
    routed_name = "routed.config"
    bitstream_suffix = ".bit"
    # Its clocks are faster by a sixth to a third than router2's, and it takes less memory.
    default_router = "router1"

    def pll_limits(self, part: Part) -> PllLimits:
        return _PLL

    def synthesis(self, part: Part | None) -> str:
        return "synth_ecp5"

    def route_arguments(self, part: Part, package: str, speed: str) -> list[str]:
        return [
            *(part.option, "--package", package, "--speed", speed),
            *("--placer-heap-timingweight", str(_TIMING_WEIGHT)),
        ]

    def output_arguments(self) -> list[str]:
        return ["--textcfg", self.routed_name]

    def constraint_arguments(self, name: str) -> list[str]:
        return ["--lpf", name] if name else ["--lpf-allow-unconstrained"]

    def pack_arguments(self, part: Part, bitstream: str) -> list[str]:
        return ["--compress", self.routed_name, bitstream]

    def constraints(self, pins: Sequence[Pin], clock_hz: int) -> str:
        lines = ["BLOCK ASYNCPATHS;", "BLOCK RESETPATHS;"]
        for pin in pins:
            lines.append(f'LOCATE COMP "{pin.port}" SITE "{pin.site}";')
            if pin.attributes:
                settings = " ".join(f"{k}={v}" for k, v in pin.attributes.items())
                lines.append(f'IOBUF PORT "{pin.port}" {settings};')
        lines.append(f'FREQUENCY PORT "clk" {clock_hz / 1e6:.6f} MHZ;')
        return "\n".join(lines) + "\n"

    def brams_of(self, width: int, depth: int) -> int:
        shape = block_shape(width, depth)
        if shape is not None:
            return -(-width // shape[0])
        whole = blocks(width, depth, _BRAM_SHAPES)
        return 0 if lut_ram_cost(width, depth) < _BRAM_COST * whole else whole


ECP5 = Ecp5()
