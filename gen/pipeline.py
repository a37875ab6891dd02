"""How long the engine's pipeline is, stated once for the cycle model and for the hardware.

A long pipeline makes for a fast clock; only the first and the last step of a program, its changes
of stage, and stages that wait for each other ever see how long. A short one
(``config.short_pipeline``) goes without the registers of what only has a long way to go, and
without those inside of a shift, a rotation and a saturation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from drawbar.gen.config import EngineConfig

#: Cycles from the issue of a step to the address of its live vector.
ISSUE_TO_ADDRESS = 1
#: Cycles from the latch of a stage to its first step, besides its wait.
LATCH_TO_STEP = 3
#: Cycles that the drain side needs to change stages: the first tile of a stage ends at least so
#: many after the last one of the stage before, besides one for each row of that.
HANDOVER = 3
#: Cycles without a program between the end of a run and the start of the one that was pending.
RUN_GAP = 1
#: Lanes that share the last copy of what all of them need, where a clock is to be fast.
NEAR_LANES = 4


@dataclass(frozen=True)
class Pipeline:
    """Lengths of one engine's pipeline, in cycles.

    Members
    -------
    group_lanes:
        Lanes of a lane group. Each group works a cycle behind the one before, so that what all
        lanes share reaches them one group after the other. In a short pipeline all lanes are one.
    group_skew:
        By how much the last lane group is behind the first.
    work_access, work_read:
        Work memory: from the address of a vector to the cycle at whose end its banks are read or
        written, and to its data.
    turn_read, turn_write:
        Of those, what elements take from banks to lanes, and from lanes to banks.
    bank_read, core_read, host_read:
        Core, bias and program memory: from an address to the data in the banks; of a core vector,
        to where the array has it; and of an item, to where the host's reader has it.
    ask_to_fetch:
        From the order to fetch a descriptor to the address of its first words.
    array_to_row, row_to_result:
        From the operands of a tile's last step at the array to its first row, and from a row to its
        results, of the first lane group.
    step_to_latch:
        From the last step of a stage to the first cycle in which the next can be latched.
    """

    group_lanes: int
    group_skew: int
    work_access: int
    work_read: int
    turn_read: int
    turn_write: int
    bank_read: int
    core_read: int
    host_read: int
    ask_to_fetch: int
    array_to_row: int
    row_to_result: int
    step_to_latch: int

    @property
    def issue_to_array(self) -> int:
        """From the issue of a step to its operands at the array."""
        return ISSUE_TO_ADDRESS + self.work_read

    @property
    def issue_to_read(self) -> int:
        """From the issue of a step to the cycle at whose end work memory is read for it."""
        return ISSUE_TO_ADDRESS + self.work_access

    @property
    def fetch_latency(self) -> int:
        """From the order to fetch a descriptor to its latch, besides one for each read of
        ``config.fetch_words`` of its words.
        """
        return self.ask_to_fetch + self.bank_read

    @property
    def step_to_row(self) -> int:
        """From the step of the drain's loops to the row's arrival at the requantiser: its bias is
        addressed and read, and comes a cycle before it.
        """
        return 1 + self.bank_read + 1

    @property
    def issue_to_drain(self) -> int:
        """From the issue of a tile's last step to the begin of its drain."""
        return self.issue_to_array + self.array_to_row - self.step_to_row - 1

    @property
    def step_to_free(self) -> int:
        """From the last step of a stage to the cycle at whose end its descriptor may change,
        besides one for each row of its last tile.
        """
        return self.issue_to_drain + 1

    @property
    def step_to_result(self) -> int:
        """From the step of the drain's loops to the row's results at work memory."""
        return self.step_to_row + self.row_to_result + self.group_skew

    @property
    def issue_to_write(self) -> int:
        """From the issue of a tile's last step to the cycle at whose end its last row is written,
        besides one for each row.
        """
        return self.issue_to_drain + self.step_to_result + self.work_access

    @property
    def latch_before_write(self) -> int:
        """A stage can be latched so long before the last row of the stage two before it is written,
        and no sooner: its own reads come after that.
        """
        return LATCH_TO_STEP + self.issue_to_read - 1

    @property
    def step_to_settled(self) -> int:
        """From the drain's step of a stage's last row to the word that the stage after the next one
        may be latched from the next cycle on.
        """
        return self.step_to_result + self.work_access - self.latch_before_write - 1


@cache
def pipeline(config: EngineConfig) -> Pipeline:
    """The lengths of an engine's pipeline."""
    short = config.short_pipeline
    group_lanes = config.lanes if short else NEAR_LANES
    if config.fold > 1:
        # A fold keeps so many together at least, as they have the same rows.
        group_lanes = max(group_lanes, config.lanes // config.fold)
    turn_read, turn_write = (0, 1) if short else (2, 2)
    # One beside the products of skew and lane; their rotation; and one that adds the start, in a
    # short pipeline with the rotation.
    work_access = 2 if short else 4
    # A memory has two registers of its own, before it and behind it.
    work_read = work_access + 2 + turn_read
    # The address is chosen before, and the data are on their way behind.
    bank_read = 3 if short else 4
    # Where there are folds, one more to find each lane group's.
    core_read = bank_read + (config.fold > 1)
    return Pipeline(
        group_lanes=group_lanes,
        group_skew=-(-config.lanes // group_lanes) - 1,
        work_access=work_access,
        work_read=work_read,
        turn_read=turn_read,
        turn_write=turn_write,
        bank_read=bank_read,
        core_read=core_read,
        # The item is chosen in two cycles, and a program that has just ended may delay the address.
        host_read=max(work_read, core_read + 3),
        # A register between who takes a descriptor and the order for the next one, or none.
        ask_to_fetch=1 if short else 2,
        # Multipliers have three; there is one between products and sums, but in a gap.
        array_to_row=4 if short and not config.tile_gap else 5,
        # The bias is added; shift, rounding and saturation take five cycles, or two.
        row_to_result=3 if short else 6,
        step_to_latch=0 if short else 1,
    )
