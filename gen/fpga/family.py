"""What an FPGA family is to a build: parts, cells, and how its tools are called.

Everything that a family does in its own way is in its own file beside this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drawbar.gen.config import EngineConfig
from drawbar.gen.fpga.pll import PllLimits

#: Resources that every report counts, in this order.
RESOURCES = ("luts", "ffs", "dsps", "brams")


@dataclass(frozen=True)
class Part:
    """One chip.

    Members
    -------
    name:
        As the vendor and the board files write it: ``LFE5U-25F``.
    luts, ffs, dsps, brams, spram:
        How many there are: look-up tables with four inputs, flip-flops, multipliers of 18 x 18 or
        16 x 16 bits, blocks of RAM, single-port blocks of 32 KiB.
    option:
        What its place-and-route wants to be told.
    max_mhz:
        The fastest clock that the datasheet allows the engine's slowest kind of block, where the
        tools' timing does not know better; None: believe the tools.
    """

    name: str
    luts: int
    ffs: int
    dsps: int
    brams: int
    option: str
    spram: int = 0
    max_mhz: float | None = None


@dataclass(frozen=True)
class Pin:
    """One pin of the top: its port, its place on the package, and the family's attributes."""

    port: str
    site: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Family(ABC):
    """How one family's netlists, constraints and bitstreams are made.

    Members
    -------
    name, title:
        In board files, and for people.
    parts:
        By name.
    cells:
        Kind of cell, for people, and the cells of yosys that are of this kind.
    resources:
        For each of ``RESOURCES`` but flip-flops the names under which nextpnr reports it, and how
        many of it each of those is.
    bram_bits:
        Bits of one block RAM.
    router, packer:
        Programs, by the names of ``gen.fpga.tools``.
    default_router:
        Which of nextpnr's routers a build takes: router1 or router2.
    constraints_suffix, routed_name, bitstream_suffix:
        Files: pins; what place-and-route leaves; what goes into the chip.
    caveat:
        What its timing estimate leaves out; said beside every clock.
    pll:
        Limits of its PLL, by part; see ``pll_limits``.
    """

    name: str
    title: str
    parts: Mapping[str, Part]
    cells: Mapping[str, tuple[str, ...]]
    resources: Mapping[str, Mapping[str, float]]
    bram_bits: int
    router: str
    packer: str
    constraints_suffix: str
    routed_name: str
    bitstream_suffix: str
    caveat: str = ""
    default_router: str = "router2"

    @abstractmethod
    def pll_limits(self, part: Part) -> PllLimits:
        """What the PLL of a part can do."""

    @abstractmethod
    def synthesis(self, part: Part | None) -> str:
        """The yosys command that maps a design, but for ``-top`` and ``-json``."""

    @abstractmethod
    def route_arguments(self, part: Part, package: str, speed: str) -> list[str]:
        """nextpnr's arguments for a part; netlist, clock, seed and report are added."""

    @abstractmethod
    def output_arguments(self) -> list[str]:
        """nextpnr's arguments to write ``routed_name``."""

    @abstractmethod
    def constraint_arguments(self, name: str) -> list[str]:
        """nextpnr's arguments for the file of pins, or ("" as name) for pins left to it."""

    @abstractmethod
    def pack_arguments(self, part: Part, bitstream: str) -> list[str]:
        """The packer's arguments, from ``routed_name`` to a bitstream."""

    @abstractmethod
    def constraints(self, pins: Sequence[Pin], clock_hz: int) -> str:
        """The file of pins: where they are, and the clock that comes in on port ``clk``."""

    def dsps_of(self, multipliers: int, width: int) -> int:
        """Multipliers of the chip that so many products of ``width`` bits take; one each, unless a
        family says otherwise.
        """
        return multipliers

    @abstractmethod
    def brams_of(self, width: int, depth: int) -> int:
        """Blocks of RAM that synthesis takes for one simple dual-port memory; 0: it is made of
        look-up tables or flip-flops.
        """

    def spram_of(self, width: int, depth: int) -> int:
        """Blocks of single-port RAM that one memory with a single port takes; 0: the family has
        none, and it is made of block RAM.
        """
        return 0

    def other_brams(self, config: EngineConfig) -> dict[str, int]:
        """Blocks of RAM that the family's primitives take for what others make of something else,
        by kind of memory; those of a kind that others have too replace theirs.
        """
        return {}

    def check_blocks(self, config: EngineConfig, part: Part) -> None:
        """Raise a FitError where the part's single-port blocks cannot be the engine's work memory;
        one without such blocks makes it of others.
        """
        return None


def blocks(width: int, depth: int, shapes: Sequence[tuple[int, int]]) -> int:
    """Least number of blocks side by side and on top of each other, all in one of the shapes
    ``(bits, words)`` that a block can have.
    """
    return min(-(-width // bits) * -(-depth // words) for bits, words in shapes)


def lut_ram_cost(width: int, depth: int) -> float:
    """What yosys reckons for a memory of cells of 16 words of 4 bits, the LUT RAM of ECP5 and
    Gowin: 4 for each cell, and half of one for each bit that is chosen from two cells.
    """
    columns, rows = -(-width // 4), -(-depth // 16)
    return 4 * columns * rows + width * (rows - 1) / 2
