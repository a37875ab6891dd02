"""Gowin LittleBee and Arora: yosys, nextpnr-himbaechel, gowin_pack of Apicula."""

from __future__ import annotations

from collections.abc import Sequence

from drawbar.gen.fpga.family import Family, Part, Pin, blocks, lut_ram_cost
from drawbar.gen.fpga.pll import PllLimits

#: Datasheets of the two series (DS117 and DS226), PLL switching characteristics; dividers: Clock
#: User Guide (UG286). Output of the GW1NR-9 at grade C6/I5, of the GW2AR-18 at C8/I7.
_OUTPUT = (2, 4, 8, *range(16, 129, 16))
_LIMITS = {
    "GW1NR-9C": PllLimits(
        reference=range(1, 65),
        feedback=range(1, 65),
        output=_OUTPUT,
        feedback_after_output=True,
        input_mhz=(3, 400),
        detector_mhz=(3, 400),
        vco_mhz=(400, 1200),
        clock_mhz=(3.125, 600),
    ),
    "GW2AR-18C": PllLimits(
        reference=range(1, 65),
        feedback=range(1, 65),
        output=_OUTPUT,
        feedback_after_output=True,
        input_mhz=(3, 500),
        detector_mhz=(3, 500),
        vco_mhz=(500, 1250),
        clock_mhz=(3.90625, 625),
    ),
}
#: Of the tools: the family that yosys maps for, and the database of nextpnr and Apicula.
_SERIES = {"GW1NR-9C": ("gw1n", "GW1N-9C"), "GW2AR-18C": ("gw2a", "GW2A-18C")}
#: Bits and words that a block can have, and what yosys reckons for one block (found by trial:
#: tests/gen/fpga/test_fit.py has the memories on either side).
BRAM_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
_BRAM_COST = 137


class Gowin(Family):
    """The two chips that open tools know well."""

    name = "gowin"
    title = "Gowin"
    # option: the full part number, which names package and speed grade too.
    parts = {
        part.name: part
        for part in (
            Part("GW1NR-9C", 8640, 6480, 20, 26, "GW1NR-LV9QN88PC6/I5"),
            Part("GW2AR-18C", 20736, 15552, 48, 46, "GW2AR-LV18QN88C8/I7"),
        )
    }
    cells = {
        "LUT": ("LUT1", "LUT2", "LUT3", "LUT4"),
        "FF": tuple(
            f"DFF{edge}{reset}{enable}"
            for edge in ("", "N")
            for reset in ("", "S", "R", "P", "C")
            for enable in ("", "E")
        ),
        "carry": ("ALU",),
        "DSP": ("MULT9X9", "MULT18X18", "MULTADDALU18X18", "MULTALU18X18"),
        "block RAM": ("SDPB", "SDPX9B", "DPB", "DPX9B", "SP", "SPX9"),
        "LUT RAM": ("RAM16SDP4", "RAM16SDP2", "RAM16SDP1"),
    }
    resources = {
        "luts": {"LUT4": 1, "ALU": 1, "RAM16SDP4": 1},
        "dsps": {"MULT18X18": 1, "MULT9X9": 0.5},
        "brams": {"BSRAM": 1},
    }
    bram_bits = 18432
    router = "nextpnr-himbaechel-gowin"
    packer = "gowin_pack"
    constraints_suffix = ".cst"
    routed_name = "routed.json"
    bitstream_suffix = ".fs"
    caveat = "nextpnr's Gowin database has no timing of the multipliers"

    def pll_limits(self, part: Part) -> PllLimits:
        return _LIMITS[part.name]

    def synthesis(self, part: Part | None) -> str:
        return f"synth_gowin -family {_SERIES[part.name][0] if part else 'gw2a'}"

    def route_arguments(self, part: Part, package: str, speed: str) -> list[str]:
        series = _SERIES[part.name][1]
        return ["--device", part.option, "--vopt", f"family={series}"]

    def output_arguments(self) -> list[str]:
        return ["--write", self.routed_name]

    def constraint_arguments(self, name: str) -> list[str]:
        return ["--vopt", f"cst={name}"] if name else []

    def pack_arguments(self, part: Part, bitstream: str) -> list[str]:
        # The pins of the configuration interfaces are ours once it is over.
        return [
            *("-d", _SERIES[part.name][1]),
            *("--sspi_as_gpio", "--mspi_as_gpio"),
            *("-o", bitstream, self.routed_name),
        ]

    def constraints(self, pins: Sequence[Pin], clock_hz: int) -> str:
        lines = []
        for pin in pins:
            lines.append(f'IO_LOC "{pin.port}" {pin.site};')
            if pin.attributes:
                settings = " ".join(f"{k}={v}" for k, v in pin.attributes.items())
                lines.append(f'IO_PORT "{pin.port}" {settings};')
        return "\n".join(lines) + "\n"

    def dsps_of(self, multipliers: int, width: int) -> int:
        # Two of 9 x 9 bits are one of 18 x 18.
        return -(-multipliers // 2) if width <= 9 else multipliers

    def brams_of(self, width: int, depth: int) -> int:
        # Side by side where one is deep enough (hw.vendor.gowin), else as yosys stacks them.
        fitting = [shape for shape in BRAM_SHAPES if depth <= shape[1]]
        whole = blocks(width, depth, fitting[:1] or BRAM_SHAPES)
        return 0 if lut_ram_cost(width, depth) < _BRAM_COST * whole else whole


GOWIN = Gowin()
