"""Lattice iCE40 UltraPlus: yosys, nextpnr-ice40, icepack."""

from __future__ import annotations

from collections.abc import Sequence

from drawbar.gen.config import EngineConfig
from drawbar.gen.errors import FitError
from drawbar.gen.fpga.family import Family, Part, Pin, blocks
from drawbar.gen.fpga.pll import PllLimits
from drawbar.gen.pipeline import pipeline

#: iCE40 UltraPlus Family Data Sheet (FPGA-DS-02008), table of sysCLOCK PLL timing; dividers: iCE40
#: sysCLOCK PLL Design and User Guide (FPGA-TN-02052), simple feedback.
_PLL = PllLimits(
    reference=range(1, 17),
    feedback=range(1, 129),
    output=(2, 4, 8, 16, 32, 64),
    feedback_after_output=False,
    input_mhz=(10, 133),
    detector_mhz=(10, 133),
    vco_mhz=(533, 1066),
    clock_mhz=(16, 275),
)
#: Bits and words that a block can have; yosys takes flip-flops where it needs fewer than this for
#: each block that it saves.
_BRAM_SHAPES = ((16, 256), (8, 512), (4, 1024), (2, 2048))
_BITS_PER_BRAM = 96
#: A single-port block: bits of a word, and words.
SPRAM = (16, 16384)
#: Flip-flops from which on a delay line is made of a block, and the greatest width of one.
_DELAY_BITS = 64
_BLOCK_WIDTH = 16


def delays_in_block(width: int, cycles: int) -> bool:
    """Whether ``hw.vendor.ice40`` makes such a delay line of a block of RAM."""
    return width <= _BLOCK_WIDTH and width * cycles >= _DELAY_BITS


class Ice40(Family):
    """UltraPlus only: the one of the series with multipliers."""

    name = "ice40"
    title = "Lattice iCE40 UltraPlus"
    parts = {
        "iCE40UP5K": Part("iCE40UP5K", 5280, 5280, 8, 30, "--up5k", spram=4, max_mhz=48.0),
    }
    cells = {
        "LUT": ("SB_LUT4",),
        "FF": tuple(
            f"SB_DFF{edge}{enable}{reset}"
            for edge in ("", "N")
            for enable in ("", "E")
            for reset in ("", "R", "S", "SR", "SS")
        ),
        "carry": ("SB_CARRY",),
        "DSP": ("SB_MAC16",),
        "block RAM": ("SB_RAM40_4K",),
        "SPRAM": ("SB_SPRAM256KA",),
    }
    # A logic cell is a look-up table, a flip-flop and a carry, of which any may be idle.
    resources = {
        "luts": {"ICESTORM_LC": 1},
        "dsps": {"ICESTORM_DSP": 1},
        "brams": {"ICESTORM_RAM": 1},
    }
    bram_bits = 4096
    router = "nextpnr-ice40"
    packer = "icepack"
    # On the same placement its clocks are faster by a tenth to a fifth than router2's.
    default_router = "router1"
    constraints_suffix = ".pcf"
    routed_name = "routed.asc"
    bitstream_suffix = ".bin"
    caveat = (
        "nextpnr's timings of the UP5K's multipliers and single-port RAM are placeholders; the "
        "datasheet allows 48 MHz"
    )

    def pll_limits(self, part: Part) -> PllLimits:
        return _PLL

    def synthesis(self, part: Part | None) -> str:
        # Not -dsp: yosys would repack the SB_MAC16 that hw.vendor.ice40 has made.
        return "synth_ice40 -device u"

    def route_arguments(self, part: Part, package: str, speed: str) -> list[str]:
        return [part.option, "--package", package]

    def output_arguments(self) -> list[str]:
        return ["--asc", self.routed_name]

    def constraint_arguments(self, name: str) -> list[str]:
        return ["--pcf", name] if name else ["--pcf-allow-unconstrained"]

    def pack_arguments(self, part: Part, bitstream: str) -> list[str]:
        return [self.routed_name, bitstream]

    def constraints(self, pins: Sequence[Pin], clock_hz: int) -> str:
        lines = []
        for pin in pins:
            pull_up = ["-pullup", "yes"] if pin.attributes.get("PULLUP") == "1" else []
            lines.append(" ".join(["set_io", *pull_up, pin.port, pin.site]))
        lines.append(f"set_frequency clk {clock_hz / 1e6:.6f}")
        return "\n".join(lines) + "\n"

    def other_brams(self, config: EngineConfig) -> dict[str, int]:
        found = {}
        pipe = pipeline(config)
        if config.work_blocks:
            found["work"] = int(delays_in_block(config.data_width, pipe.work_read - 2))
        if config.stages_held == 1:
            found["deltas"] = 3
        to_result = pipe.bank_read + pipe.row_to_result + pipe.group_skew
        found["results"] = int(delays_in_block(config.work_address_bits, to_result))
        return found

    def check_blocks(self, config: EngineConfig, part: Part) -> None:
        if not config.work_blocks:
            return
        bits, words = SPRAM
        if config.work_blocks > part.spram or config.work_block > words or config.data_width > bits:
            raise FitError(
                f"engine {config.name!r} on {part.name}",
                f"has at most {part.spram} work blocks of {words} elements of {bits} bits",
                f"{config.work_blocks} of {config.work_block} elements of {config.data_width} bits",
                "lower work_depth, or set work_blocks to 4 for a work_depth above 49152",
            )

    def brams_of(self, width: int, depth: int) -> int:
        whole = blocks(width, depth, _BRAM_SHAPES)
        return 0 if width * depth < _BITS_PER_BRAM * whole else whole

    def spram_of(self, width: int, depth: int) -> int:
        return blocks(width, depth, (SPRAM,))


ICE40 = Ice40()
