"""Engine configuration: everything that decides the generated hardware, and nothing else.

A leaf module: it imports only the standard library and the project's errors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from drawbar.gen.errors import ConfigError

#: Bumped whenever the RTL, the program encoding or the link changes what the same configuration
#: means.
HARDWARE_REVISION = 4
#: Parameters that came later within this revision, and what engines were before.
LATER = {"fold": 1, "fetch_words": 1, "short_pipeline": 0}


def clog2(n: int) -> int:
    """The least number of bits that can count ``n`` things: 0 for 1, 3 for 5..8."""
    return (n - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Parameters of one engine. Sizes are in the unit that the memory is accessed by.

    Arguments
    ---------
    name:
        For people; not part of the hash.
    rows, lanes:
        ``rows x lanes`` multiply-accumulators (R x C). Lanes are a power of two: bank = address mod
        lanes.
    data_width:
        Bits of an activation or core element: 8 or 16, signed.
    acc_width:
        Bits of an accumulator and of a bias, signed.
    core_depth:
        Core memory, in vectors of ``rows`` elements.
    work_depth:
        Work memory, in vectors of ``lanes`` elements.
    bias_depth:
        Bias memory, in vectors of ``lanes`` accumulators.
    program_depth:
        Program memory, in 32-bit words.
    fetch_words:
        Words of program memory that are read at a time, a power of two: so many banks of it.
        Descriptors begin at multiples of it, and programs start the sooner.
    k_loops, row_loops, column_loops:
        Nesting depth of the address generators: reduction, result rows, and columns besides the
        lane tiles.
    count_bits:
        Bits of a loop's counter: it repeats at most ``2**count_bits`` times.
    stages_held:
        Stages whose descriptors the engine holds in registers. 3: one issues, one drains, the next
        one waits, and stages overlap. 1: the next one is fetched when the one before has left the
        array, which costs each stage the cycles of a fetch and saves the registers of two.
    work_blocks:
        0: work memory is dual-port. Else it is made of so many blocks of equal size with a single
        port: one access a cycle each. A stage then keeps what it reads and what it writes in
        different blocks, and nothing may overlap: ``stages_held`` is 1.
    tile_gap:
        Cycles without a step behind each tile, 0 or 1. With 1, accumulators may lie inside
        multiplier blocks that cannot be read and cleared in one cycle.
    counter_bits:
        Bits of the engine's cycle counters.
    fold:
        The most a stage can *fold* the array, a power of two: with 4, each stage may run on
        ``rows x lanes``, ``2 rows x lanes / 2`` or ``4 rows x lanes / 4`` multipliers, the same
        ones, as suits its numbers of rows and columns. 1: the array keeps its shape.
    short_pipeline:
        1: the pipeline has only the registers that it cannot do without (``gen.pipeline``): fewer
        cycles, of a slower clock. 0: it has those that let the clock be fast.
    products:
        1: the engine also multiplies tensors that live in work memory, element by element, as gates
        need it; 0: it does not.
    link_window:
        Frames that the link can hold unacknowledged; a power of two.
    clock_hz, baud:
        Clock of the one clock domain, and of the serial link.
    """

    name: str = "custom"
    rows: int = 8
    lanes: int = 8
    data_width: int = 16
    acc_width: int = 40
    core_depth: int = 1024
    work_depth: int = 1024
    bias_depth: int = 256
    program_depth: int = 1024
    fetch_words: int = 1
    k_loops: int = 3
    row_loops: int = 3
    column_loops: int = 3
    count_bits: int = 16
    stages_held: int = 3
    work_blocks: int = 0
    tile_gap: int = 0
    counter_bits: int = 32
    fold: int = 1
    short_pipeline: int = 0
    products: int = 0
    link_window: int = 4
    clock_hz: int = 48_000_000
    baud: int = 3_000_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                if not isinstance(value, str):
                    self._reject("name", "is a string", value, "put the name in quotes")
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                self._reject(field.name, "is an integer", value, f"give {field.name} as an integer")
            optional = ("work_blocks", "tile_gap", "short_pipeline", "products")
            if value < 1 and field.name not in optional:
                self._reject(field.name, "is at least 1", value, f"raise {field.name}")
        for field_name in ("lanes", "fold", "fetch_words", "link_window"):
            value = getattr(self, field_name)
            if value & (value - 1):
                self._reject(field_name, "is a power of two", value, f"use {1 << clog2(value)}")
        if self.data_width not in (8, 16):
            self._reject(
                "data_width", "is 8 or 16", self.data_width, "use 16, or 8 for a smaller engine"
            )
        for field_name, least, most in (
            ("rows", 1, 64),
            ("lanes", 1, 64),
            ("acc_width", 2 * self.data_width, 53),
            ("core_depth", 2, 1 << 20),
            ("work_depth", 2, 1 << 20),
            ("bias_depth", 2, 1 << 20),
            ("program_depth", self.descriptor_reserve, 1 << 16),
            ("k_loops", 1, 4),
            ("row_loops", 1, 4),
            ("column_loops", 1, 6),
            ("count_bits", 4, 16),
            ("work_blocks", 0, 64),
            ("tile_gap", 0, 1),
            ("counter_bits", 16, 32),
            ("fold", 1, self.lanes),
            ("fetch_words", 1, 32),
            ("short_pipeline", 0, 1),
            ("products", 0, 1),
            ("link_window", 2, 32),
        ):
            value = getattr(self, field_name)
            if not least <= value <= most:
                self._reject(
                    field_name,
                    f"is between {least} and {most}",
                    value,
                    f"move {field_name} into that range",
                )
        if self.stages_held not in (1, 3):
            self._reject("stages_held", "is 1 or 3", self.stages_held, "use 3, or 1 to save area")
        if self.stages_held == 1 and self.fetch_words > 1:
            rule, fix = "is 1 where the engine holds one stage", "use 1, or stages_held = 3"
            self._reject("fetch_words", rule, self.fetch_words, fix)
        if self.stages_held == 1 and self.work_address_bits + self.bias_address_bits > 32:
            self._reject(
                "stages_held",
                "is 1 only where addresses of work and bias memory fit 32 bits together",
                f"{self.work_address_bits} and {self.bias_address_bits} bits",
                "use stages_held = 3, or smaller memories",
            )
        if self.work_blocks:
            if self.stages_held != 1:
                self._reject(
                    "work_blocks",
                    "has single-port blocks only where stages do not overlap",
                    self.work_blocks,
                    "use stages_held = 1, or work_blocks = 0 for dual-port memory",
                )
            if self.lanes != 1:
                self._reject(
                    "work_blocks",
                    "has single-port blocks only with one lane",
                    self.work_blocks,
                    "use lanes = 1, or work_blocks = 0 for dual-port memory",
                )
            if self.work_depth % self.work_blocks:
                self._reject(
                    "work_blocks",
                    f"divides work_depth, {self.work_depth}",
                    self.work_blocks,
                    "use a number that divides it",
                )
        for field_name, unit in (("core_depth", "fold"), ("program_depth", "fetch_words")):
            value, each = getattr(self, field_name), getattr(self, unit)
            if value % each:
                self._reject(
                    field_name,
                    f"is a multiple of {unit}, {each}",
                    value,
                    f"use {-(-value // each) * each}",
                )
        if self.products and self.tile_gap:
            self._reject(
                "products",
                "is 1 only without a gap behind tiles",
                self.products,
                "use products = 0, or tile_gap = 0",
            )
        if self.clock_hz < 4 * self.baud:
            self._reject(
                "baud",
                "is at most a quarter of clock_hz",
                self.baud,
                f"use {self.clock_hz // 4} or less",
            )

    def _reject(self, field_name: str, rule: str, value: object, fix: str) -> None:
        raise ConfigError(f"engine configuration {self.name!r}, {field_name}", rule, value, fix)

    # -- derived sizes -----------------------------------------------------------------------------

    @property
    def descriptor_reserve(self) -> int:
        """Least program memory, in words: more than one descriptor ever needs."""
        return 64

    @property
    def multipliers(self) -> int:
        return self.rows * self.lanes

    @property
    def element_bytes(self) -> int:
        return self.data_width // 8

    @property
    def lane_bits(self) -> int:
        return clog2(self.lanes)

    @property
    def row_bits(self) -> int:
        return clog2(self.rows)

    @property
    def folds(self) -> list[int]:
        """How often a stage may fold the array."""
        return [1 << n for n in range(self.fold_bits + 1)]

    @property
    def fold_bits(self) -> int:
        return clog2(self.fold)

    @property
    def work_elements(self) -> int:
        return self.work_depth * self.lanes

    @property
    def work_row_bits(self) -> int:
        """Bits of an address within one work memory bank."""
        return clog2(self.work_depth)

    @property
    def work_address_bits(self) -> int:
        """Bits of an element address in work memory."""
        return self.work_row_bits + self.lane_bits

    @property
    def work_block(self) -> int:
        """Elements of a single-port block of work memory; all of it where it is dual-port."""
        return self.work_elements // max(1, self.work_blocks)

    @property
    def core_address_bits(self) -> int:
        return clog2(self.core_depth)

    @property
    def bias_address_bits(self) -> int:
        return clog2(self.bias_depth)

    @property
    def fetch_bits(self) -> int:
        return clog2(self.fetch_words)

    @property
    def program_address_bits(self) -> int:
        return clog2(self.program_depth)

    @property
    def shift_bits(self) -> int:
        """Bits of a requantisation shift, which is 0..acc_width."""
        return clog2(self.acc_width + 1)

    @property
    def core_bytes(self) -> int:
        return self.core_depth * self.rows * self.element_bytes

    @property
    def work_bytes(self) -> int:
        return self.work_elements * self.element_bytes

    @property
    def data_min(self) -> int:
        return -(1 << (self.data_width - 1))

    @property
    def data_max(self) -> int:
        return (1 << (self.data_width - 1)) - 1

    # -- identity ----------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, int | str]:
        return dataclasses.asdict(self)

    def as_toml(self) -> str:
        """The text of a file that ``load_config`` reads back as this."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.as_dict().items())

    @property
    def hash(self) -> bytes:
        """16 bytes that name this hardware: two configurations with the same hash run the same
        programs.

        SHA-256 over the canonical JSON of every field but the name, and the hardware revision;
        without those of ``LATER`` that are as before, so that older bitstreams stay good.
        """
        fields = {k: v for k, v in self.as_dict().items() if k != "name" and v != LATER.get(k)}
        fields["hardware_revision"] = HARDWARE_REVISION
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:16]

    def replace(self, **changes: int | str) -> EngineConfig:
        """A copy with some fields changed; unknown names are an error that lists the known ones."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(
                    f"engine configuration {self.name!r}",
                    "has only known parameters",
                    name,
                    f"use one of {', '.join(known)}",
                )
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
