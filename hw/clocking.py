"""The engine's clock: a family's PLL between the oscillator and the domain ``sync``.

None of these has a twin: a simulation drives ``sync`` itself.
"""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer

from drawbar.gen.fpga.boards import BoardSpec
from drawbar.gen.fpga.family import Part
from drawbar.gen.fpga.pll import PllSettings, find_pll

#: (part, settings, oscillator, clock, locked): the instance.
_MakePll = Callable[[Part, PllSettings, Signal, Signal, Signal], Instance]


def _ecp5_pll(
    part: Part, pll: PllSettings, oscillator: Signal, clock: Signal, locked: Signal
) -> Instance:
    """EHXPLLL, fed back from its own output (FPGA-TN-02200)."""
    return Instance(
        "EHXPLLL",
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        a_FREQUENCY_PIN_CLKI=f"{pll.input_hz / 1e6:.6f}",
        a_FREQUENCY_PIN_CLKOP=f"{float(pll.clock_hz) / 1e6:.6f}",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_OUTDIVIDER_MUXA="DIVA",
        p_OUTDIVIDER_MUXB="DIVB",
        p_OUTDIVIDER_MUXC="DIVC",
        p_OUTDIVIDER_MUXD="DIVD",
        p_CLKI_DIV=pll.reference,
        p_CLKFB_DIV=pll.feedback,
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_DIV=pll.output,
        # No phase shift.
        p_CLKOP_CPHASE=pll.output - 1,
        p_CLKOP_FPHASE=0,
        p_FEEDBK_PATH="CLKOP",
        i_CLKI=oscillator,
        i_CLKFB=clock,
        i_RST=Const(0),
        i_STDBY=Const(0),
        i_PHASESEL0=Const(0),
        i_PHASESEL1=Const(0),
        i_PHASEDIR=Const(1),
        i_PHASESTEP=Const(1),
        i_PHASELOADREG=Const(1),
        i_PLLWAKESYNC=Const(0),
        i_ENCLKOP=Const(0),
        o_CLKOP=clock,
        o_LOCK=locked,
    )


def _ice40_pll(
    part: Part, pll: PllSettings, oscillator: Signal, clock: Signal, locked: Signal
) -> Instance:
    """SB_PLL40_PAD: the oscillator's pin is the PLL's own (FPGA-TN-02052)."""
    detector_mhz = pll.detector_hz / 1_000_000
    # The loop filter's range, by the phase detector's frequency.
    filter_range = 1 + sum(detector_mhz >= limit for limit in (17, 26, 44, 66, 101))
    return Instance(
        "SB_PLL40_PAD",
        p_FEEDBACK_PATH="SIMPLE",
        p_DIVR=Const(pll.reference - 1, 4),
        p_DIVF=Const(pll.feedback - 1, 7),
        p_DIVQ=Const(pll.output.bit_length() - 1, 3),
        p_FILTER_RANGE=Const(filter_range, 3),
        i_PACKAGEPIN=oscillator,
        i_RESETB=Const(1),
        i_BYPASS=Const(0),
        o_PLLOUTGLOBAL=clock,
        o_LOCK=locked,
    )


def _gowin_pll(
    part: Part, pll: PllSettings, oscillator: Signal, clock: Signal, locked: Signal
) -> Instance:
    """rPLL, fed back inside (UG286)."""
    return Instance(
        "rPLL",
        p_DEVICE=part.name,
        p_FCLKIN=f"{pll.input_hz / 1e6:g}",
        p_IDIV_SEL=pll.reference - 1,
        p_FBDIV_SEL=pll.feedback - 1,
        p_ODIV_SEL=pll.output,
        p_DYN_IDIV_SEL="false",
        p_DYN_FBDIV_SEL="false",
        p_DYN_ODIV_SEL="false",
        p_PSDA_SEL="0000",
        p_DUTYDA_SEL="1000",
        p_DYN_DA_EN="false",
        p_CLKFB_SEL="internal",
        p_CLKOUT_BYPASS="false",
        p_CLKOUTP_BYPASS="false",
        p_CLKOUTD_BYPASS="false",
        p_CLKOUT_FT_DIR=Const(1, 1),
        p_CLKOUTP_FT_DIR=Const(1, 1),
        p_CLKOUT_DLY_STEP=0,
        p_CLKOUTP_DLY_STEP=0,
        p_CLKOUTD_SRC="CLKOUT",
        p_CLKOUTD3_SRC="CLKOUT",
        p_DYN_SDIV_SEL=2,
        i_CLKIN=oscillator,
        i_CLKFB=Const(0),
        i_RESET=Const(0),
        i_RESET_P=Const(0),
        i_FBDSEL=Const(0, 6),
        i_IDSEL=Const(0, 6),
        i_ODSEL=Const(0, 6),
        i_PSDA=Const(0, 4),
        i_DUTYDA=Const(0, 4),
        i_FDLY=Const(0, 4),
        o_CLKOUT=clock,
        o_LOCK=locked,
    )


def _held_by_gate(m: Module, clock: Signal, locked: Signal) -> None:
    """``sync`` stands still until the PLL has locked, by a clock gate (DCCA). Registers then start
    with what the configuration gave them: a reset would be one more net to each of them, and not
    the fastest.
    """
    m.domains.pll = pll = ClockDomain(reset_less=True)
    m.domains.sync = sync = ClockDomain(reset_less=True)
    running = Signal()
    m.submodules.locked = FFSynchronizer(locked, running, o_domain="pll")
    m.d.comb += pll.clk.eq(clock)
    m.submodules.gate = Instance("DCCA", i_CLKI=clock, i_CE=running, o_CLKO=sync.clk)


def _held_by_reset(m: Module, clock: Signal, locked: Signal) -> None:
    """``sync`` is in reset until the PLL has locked, and two cycles longer."""
    m.domains.sync = sync = ClockDomain()
    m.d.comb += sync.clk.eq(clock)
    m.submodules.reset = ResetSynchronizer(~locked, domain="sync")


#: Family: its PLL, and what keeps ``sync`` until that has locked.
_CLOCKS: dict[str, tuple[_MakePll, Callable[[Module, Signal, Signal], None]]] = {
    "ecp5": (_ecp5_pll, _held_by_gate),
    "ice40": (_ice40_pll, _held_by_reset),
    "gowin": (_gowin_pll, _held_by_reset),
}


def add_clock(m: Module, *, board: BoardSpec, clock_hz: int, oscillator: Signal) -> None:
    """Define the domain ``sync`` in the top module of a board: ``clock_hz``, out of the board's
    oscillator.

    Where that is the oscillator's own frequency there is no PLL, and ``sync`` is never reset.

    Raises
    ------
    ConfigError:
        the chip's PLL cannot make that clock.
    """
    settings = find_pll(board.chip_family.pll_limits(board.chip), board.oscillator_hz, clock_hz)
    if settings is None:
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal().eq(oscillator)
        return
    make, hold = _CLOCKS[board.family]
    clock = Signal()
    locked = Signal()
    m.submodules.pll = make(board.chip, settings, oscillator, clock, locked)
    hold(m, clock, locked)
