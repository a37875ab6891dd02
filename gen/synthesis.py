"""Synthesis, place-and-route and packing, one family's tools behind each.

Netlists and routed designs go in and out as bytes: a seed may be routed anywhere.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from drawbar.gen.errors import ToolError
from drawbar.gen.fpga.ecp5 import ECP5
from drawbar.gen.fpga.families import FAMILIES
from drawbar.gen.fpga.family import RESOURCES, Family, Part
from drawbar.gen.fpga.tools import Beat, find_tool, last_words, run_tool

__all__ = [
    "Area",
    "Beat",
    "Netlist",
    "RouteJob",
    "Routed",
    "Timing",
    "pack",
    "packed_resources",
    "place_and_route",
    "synthesise",
]

#: Seconds that a tool may take. Synthesis of 256 multiply-accumulators takes many minutes.
SYNTHESIS_TIMEOUT = 3600
PLACE_TIMEOUT = 7200
_PACK_TIMEOUT = 600
#: nextpnr's two. Which one a build takes is its family's: ``Family.default_router``.
ROUTERS = ("router1", "router2")

_NETLIST, _PINS, _REPORT = "netlist.json", "pins", "timing.json"
#: nextpnr's exit status where the clock is missed; for other errors too, but those leave no report.
_MISSED = 1


@dataclass(frozen=True)
class Area:
    """Cells of a netlist by kind, as the family names the kinds, and the seconds it took."""

    cells: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Netlist:
    """What synthesis leaves: yosys's JSON, and its cells."""

    json: bytes
    area: Area


@dataclass(frozen=True)
class Timing:
    """What nextpnr says.

    Members
    -------
    mhz, target_mhz:
        Its estimate of the fastest clock, and the one that it was asked for.
    met:
        Whether the estimate reaches the target.
    used, available:
        Device resources, by nextpnr's names.
    path:
        Registers at the two ends of the slowest path.
    through:
        Signals on that path, in the words of the hierarchy, without repetitions.
    logic_ns, routing_ns, levels:
        Where that path's time goes, and how many cells are on it.
    slack_ns:
        Least slack of the paths that end in each module.
    """

    mhz: float
    target_mhz: float
    met: bool
    used: Mapping[str, int]
    available: Mapping[str, int]
    path: tuple[str, str]
    through: tuple[str, ...]
    logic_ns: float
    routing_ns: float
    levels: int
    slack_ns: Mapping[str, float]
    seconds: float

    def resources(self, family: Family, area: Area) -> dict[str, int]:
        """How much is used of each of ``RESOURCES``: see ``used_resources``."""
        return used_resources(self.used, family, area)


def used_resources(used: Mapping[str, int], family: Family, area: Area) -> dict[str, int]:
    """How much is used of each of ``RESOURCES``, by nextpnr; flip-flops by yosys, as
    nextpnr counts an iCE40's with its logic cells.
    """
    counts = {
        kind: ceil(sum(used.get(name, 0) * share for name, share in names.items()))
        for kind, names in family.resources.items()
    }
    return {kind: area.cells["FF"] if kind == "ffs" else counts[kind] for kind in RESOURCES}


@dataclass(frozen=True)
class RouteJob:
    """All that place-and-route needs, wherever it runs.

    Members
    -------
    family, part, package, speed:
        Names of the chip and of its form.
    constraints:
        Text of the file of pins; empty: pins go wherever nextpnr likes.
    router:
        nextpnr's; empty: the family's default.
    detailed:
        Whether the slack of each module is wanted.
    """

    family: str
    part: str
    package: str
    speed: str
    netlist: bytes
    target_mhz: float
    constraints: str = ""
    seed: int = 1
    router: str = ""
    detailed: bool = True


@dataclass(frozen=True)
class Routed:
    """A routed design in the family's own format, and what nextpnr says about it."""

    job: RouteJob
    design: bytes
    timing: Timing


def _json(path: Path, name: str) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(name, "writes its JSON report", error, f"upgrade {name}") from None


def synthesise(
    verilog: str,
    top: str,
    *,
    family: Family = ECP5,
    part: Part | None = None,
    timeout: float = SYNTHESIS_TIMEOUT,
    beat: Beat | None = None,
) -> Netlist:
    """yosys's synthesis of a Verilog text for a family.

    Raises
    ------
    ToolError:
        yosys is missing, fails, or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="drawbar-synthesis-") as folder:
        place = Path(folder)
        (place / "design.v").write_text(verilog)
        (place / "synth.ys").write_text(
            "read_verilog design.v\n"
            f"{family.synthesis(part)} -top {top} -json {_NETLIST}\n"
            "tee -q -o stat.json stat -json\n"
        )
        _, seconds = run_tool("yosys", ["-q", "-s", "synth.ys"], place, timeout=timeout, beat=beat)
        found = _json(place / "stat.json", "yosys")["design"]["num_cells_by_type"]
        cells = {
            kind: sum(int(found.get(name, 0)) for name in names)
            for kind, names in family.cells.items()
        }
        return Netlist((place / _NETLIST).read_bytes(), Area(cells, seconds))


def _write_job(job: RouteJob, folder: Path) -> str:
    """Write a job's netlist and pins; returns the name of the file of pins, empty for none."""
    (folder / _NETLIST).write_bytes(job.netlist)
    if not job.constraints:
        return ""
    name = _PINS + FAMILIES[job.family].constraints_suffix
    (folder / name).write_text(job.constraints)
    return name


def place_and_route(
    job: RouteJob, *, timeout: float = PLACE_TIMEOUT, beat: Beat | None = None
) -> Routed:
    """nextpnr on a netlist; the same job gives the same result.

    A clock below the target is a result, and no error: see ``Timing.met``.

    Raises
    ------
    ToolError:
        nextpnr is missing, is killed, cannot place or route, or takes too long (``OutOfTime``).
    """
    family = FAMILIES[job.family]
    part = family.parts[job.part]
    with tempfile.TemporaryDirectory(prefix="drawbar-route-") as folder:
        place = Path(folder)
        pins = _write_job(job, place)
        arguments = [
            *family.route_arguments(part, job.package, job.speed),
            *family.output_arguments(),
            *family.constraint_arguments(pins),
            *("--json", _NETLIST, "--report", _REPORT),
            *("--router", job.router or family.default_router),
            *("--freq", f"{job.target_mhz:g}", "--seed", str(job.seed)),
        ]
        if job.detailed:
            arguments.append("--detailed-timing-report")
        status, seconds = run_tool(
            family.router, arguments, place, timeout=timeout, beat=beat, failures=(_MISSED,)
        )
        if status and not (place / _REPORT).is_file():
            raise ToolError(
                family.router,
                "places and routes the design",
                last_words(place / f"{family.router}.log"),
                "use a smaller engine, or mend what its last words name",
            )
        report = _json(place / _REPORT, family.router)
        for name, used in _packed(
            (place / f"{family.router}.log").read_text(errors="replace")
        ).items():
            if name in report["utilization"]:
                report["utilization"][name]["used"] = used
        timing = _timing(report, job.target_mhz, status, seconds)
        if timing is None:
            raise ToolError(
                family.router, "finds a clock in the design", "none", "give it one with registers"
            )
        return Routed(job, (place / family.routed_name).read_bytes(), timing)


def packed_resources(job: RouteJob, area: Area, *, beat: Beat | None = None) -> dict[str, int]:
    """``used_resources`` of a job's netlist; nothing is placed, and it need not fit.

    Raises
    ------
    ToolError:
        nextpnr is missing or fails.
    """
    family = FAMILIES[job.family]
    part = family.parts[job.part]
    with tempfile.TemporaryDirectory(prefix="drawbar-packed-") as folder:
        place = Path(folder)
        arguments = [
            *family.route_arguments(part, job.package, job.speed),
            *family.constraint_arguments(_write_job(job, place)),
            *("--json", _NETLIST, "--report", _REPORT, "--pack-only"),
        ]
        run_tool(family.router, arguments, place, timeout=_PACK_TIMEOUT, beat=beat)
        found = _json(place / _REPORT, family.router)["utilization"]
    return used_resources({name: int(f["used"]) for name, f in found.items()}, family, area)


def pack(routed: Routed) -> bytes:
    """The bitstream of a routed design; the same design gives the same bytes.

    Raises
    ------
    ToolError:
        the packer is missing or fails.
    """
    family = FAMILIES[routed.job.family]
    with tempfile.TemporaryDirectory(prefix="drawbar-pack-") as folder:
        place = Path(folder)
        (place / family.routed_name).write_bytes(routed.design)
        bitstream = "design" + family.bitstream_suffix
        arguments = family.pack_arguments(family.parts[routed.job.part], bitstream)
        run_tool(family.packer, arguments, place, timeout=_PACK_TIMEOUT)
        return (place / bitstream).read_bytes()


def toolchain(family: Family) -> dict[str, str]:
    """The programs that a build for a family uses: versions, and where they come from."""
    names = ("yosys", family.router, family.packer)
    return {name: f"{t.version or '?'} ({t.origin})" for name in names for t in [find_tool(name)]}


def _packed(log: str) -> dict[str, int]:
    """What nextpnr's log says that the packed design takes: its report counts the look-up tables
    that the router goes through as well.
    """
    _, _, after = log.partition("Device utilisation:")
    block = after.lstrip("\n").partition("\n\n")[0]
    found = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*\d+\s+\d+%$", block, flags=re.MULTILINE)
    return {name: int(used) for name, used in found}


def _timing(report: dict, target_mhz: float, status: int, seconds: float) -> Timing | None:
    """nextpnr's JSON report in our words; None where it has no clock."""
    clocks = report["fmax"]
    if not clocks:
        return None
    achieved = min(float(clock["achieved"]) for clock in clocks.values())
    resources = report["utilization"]
    steps = _slowest_path(report["critical_paths"])
    ends = ("", "")
    if steps:
        ends = (signal_name(steps[0]["from"]["cell"]), signal_name(steps[-1]["to"]["cell"]))
    names = [signal_name(step["to"]["cell"]) for step in steps]
    return Timing(
        mhz=achieved,
        target_mhz=target_mhz,
        met=status == 0 and achieved >= target_mhz,
        used={name: int(entry["used"]) for name, entry in resources.items()},
        available={name: int(entry["available"]) for name, entry in resources.items()},
        path=ends,
        through=tuple(dict.fromkeys(name for name in (ends[0], *names) if name)),
        logic_ns=sum(s["delay"] for s in steps if s["type"] != "routing"),
        routing_ns=sum(s["delay"] for s in steps if s["type"] == "routing"),
        levels=sum(s["type"] == "logic" for s in steps),
        slack_ns=_slack(report.get("detailed_net_timings", []), 1000 / target_mhz),
        seconds=seconds,
    )


def _slowest_path(paths: list[dict]) -> list[dict]:
    """Steps of the slowest path from register to register."""
    inner = [p["path"] for p in paths if "async" not in p["from"] and "async" not in p["to"]]
    return max(inner, key=lambda steps: sum(s["delay"] for s in steps), default=[])


def _slack(nets: Sequence[dict], period_ns: float) -> dict[str, float]:
    """Least slack of the registers in each module, worst module first."""
    least: dict[str, float] = {}
    for net in nets:
        for end in net["endpoints"]:
            if "async" in end["event"] or "async" in net["event"]:
                continue
            module = _source_name(end["cell"]).rpartition(".")[0] or "top"
            slack = period_ns - float(max(end["delay"]))
            least[module] = min(slack, least.get(module, slack))
    return dict(sorted(least.items(), key=lambda item: item[1]))


#: What yosys and nextpnr append to the name of a signal when they name its cells: the types of
#: cells of all families, and nextpnr's own marks.
_CELL = re.compile(
    r"_(?:TRELLIS_FF|TRELLIS_DPR16X4|TRELLIS_COMB|CCU2C|L6MUX21|PFUMX|LUT\d|DP16KD|MULT18X18D"
    r"|SB_[A-Z0-9]+|DFF[A-Z]*|ALU|MUX2_LUT\d|SDPX?9?B|DPX?9?B|RAM16SDP\d|MULT18X18)(?:_|$).*|\$.*"
)


def signal_name(cell: str) -> str:
    """``link.receiver.seq`` of ``link.receiver.seq_TRELLIS_FF_Q_5``: the name in the source, or
    that of the module where it has none.
    """
    return _source_name(cell).rstrip(".")


def _source_name(cell: str) -> str:
    return _CELL.split(cell, maxsplit=1)[0]
