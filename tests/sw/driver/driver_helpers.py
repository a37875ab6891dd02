"""What the driver's tests share: a damaged wire, a device that counts, and a small artefact."""

from __future__ import annotations

import random
from collections import deque

import numpy as np

from drawbar.gen.artefact import Artefact, Buffer, Load, Pass, TensorLayout
from drawbar.gen.config import EngineConfig
from drawbar.gen.cycles import Cycles, program_cycles
from drawbar.gen.program import encode
from drawbar.gen.protocol import (
    CRC_BYTES,
    HEADER_BYTES,
    SPACE_SHIFT,
    Header,
    Op,
    Space,
    has_payload,
    item_bytes,
)
from drawbar.gen.stage import Loop, Stage
from drawbar.sim.golden_board import GoldenBoard
from drawbar.sw.driver.frames import FrameReader
from drawbar.sw.driver.transport import Transport

#: Three rows: core memory has a hole in each vector.
CONFIG = EngineConfig(
    name="test", rows=3, lanes=4, core_depth=200, work_depth=300, bias_depth=64, program_depth=300
)


class FaultyTransport(Transport):
    """Damages frames on their way to and from ``inner``, each way with the same probabilities.

    ``faults`` counts what it did.
    """

    def __init__(
        self,
        inner: Transport,
        seed: int,
        *,
        corrupt: float = 0.0,
        drop: float = 0.0,
        duplicate: float = 0.0,
        truncate: float = 0.0,
        insert: float = 0.0,
    ) -> None:
        self.inner = inner
        self.timeout = inner.timeout
        # One for each way, so that what happens does not depend on how the two interleave.
        self.sending = random.Random(2 * seed)
        self.receiving = random.Random(2 * seed + 1)
        self.chances = {
            "corrupt": corrupt,
            "drop": drop,
            "duplicate": duplicate,
            "truncate": truncate,
            "insert": insert,
        }
        self.faults = dict.fromkeys(self.chances, 0)
        self._received = bytearray()

    def _damage(self, rng: random.Random, frame: bytes) -> bytes:
        data = bytearray(frame)
        for kind, chance in self.chances.items():
            if rng.random() >= chance:
                continue
            self.faults[kind] += 1
            if kind == "corrupt":
                for _ in range(rng.randint(1, 5)):
                    if data:
                        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            elif kind == "drop":
                data.clear()
            elif kind == "duplicate":
                data += bytes(data)
            elif kind == "truncate":
                del data[rng.randrange(len(data) + 1) :]
            else:
                data[:0] = rng.randbytes(rng.randint(1, 20))
        return bytes(data)

    def write(self, data: bytes) -> None:
        self.inner.write(self._damage(self.sending, data))

    def read(self, timeout: float) -> bytes:
        # A frame that is lost is not there: only silence ends the wait.
        while came := self.inner.read(timeout):
            self._received += came
            frames = iter(lambda: _take_frame(self._received), b"")
            if data := b"".join(self._damage(self.receiving, frame) for frame in frames):
                return data
        return b""

    def close(self) -> None:
        self.inner.close()

    def describe(self) -> str:
        return f"faulty {self.inner.describe()}"


def _items(header: Header) -> range:
    """Addresses, space included, of the items that a READ or WRITE moves in a device of CONFIG."""
    size = item_bytes(CONFIG, Space(header.address >> SPACE_SHIFT))
    return range(header.address, header.address + header.length // size)


def _take_frame(stream: bytearray) -> bytes:
    """The first of the undamaged frames in a stream, or nothing where its end has not come yet."""
    if len(stream) < HEADER_BYTES:
        return b""
    header = Header.unpack(bytes(stream[:HEADER_BYTES]))
    assert header is not None
    size = HEADER_BYTES + (header.length + CRC_BYTES if has_payload(header) else 0)
    if len(stream) < size:
        return b""
    frame = bytes(stream[:size])
    del stream[:size]
    return frame


class CountingTransport(Transport):
    """Passes requests on to ``inner`` only when somebody reads, one at a time, and checks the
    host's promises.

    It asserts that no more than ``window`` requests are ever unanswered, that no RUN comes while a
    READ, STATUS or WAIT is unanswered, and no WRITE while a READ is that has an item in common with
    it. ``most`` is the most that were unanswered, ``ops`` every request in order.
    """

    def __init__(self, inner: Transport, window: int) -> None:
        self.inner = inner
        self.timeout = inner.timeout
        self.window = window
        self.most = 0
        self.ops: list[int] = []
        self._reader = FrameReader()
        self._waiting: deque[tuple[Header, bytes]] = deque()

    def write(self, data: bytes) -> None:
        frames = list(self._reader.feed(data))
        assert len(frames) == 1, "one frame in each write"
        header = frames[0][0]
        before = [waiting for waiting, _ in self._waiting]
        if header.op == Op.RUN:
            assert not any(h.op in (Op.READ, Op.STATUS, Op.WAIT) for h in before)
        if header.op == Op.WRITE:
            read = {item for h in before if h.op == Op.READ for item in _items(h)}
            assert read.isdisjoint(_items(header))
        self.ops.append(header.op)
        self._waiting.append((header, data))
        self.most = max(self.most, len(self._waiting))
        assert self.most <= self.window

    def read(self, timeout: float) -> bytes:
        if not self._waiting:
            return b""
        self.inner.write(self._waiting.popleft()[1])
        return self.inner.read(timeout)

    def close(self) -> None:
        self.inner.close()

    def describe(self) -> str:
        return f"counting {self.inner.describe()}"


class CountingEngine:
    """Memories of the golden board, and a program that counts its runs in work element 0."""

    def __init__(self, board: GoldenBoard) -> None:
        inner = board.memories.engine
        self.program, self.core = inner.program, inner.core
        self.bias, self.work = inner.bias, inner.work

    def run(self, address: int) -> list[Cycles]:
        self.work[0] += 1
        return [Cycles(busy=int(self.work[0]))]


class SilentTransport(Transport):
    """Takes every byte, and gives back ``answer`` after each write, or nothing."""

    def __init__(self, timeout: float = 0.02, answer: bytes = b"") -> None:
        self.timeout = timeout
        self.written = b""
        self.answer = answer
        self.closed = 0
        self._waiting = b""

    def write(self, data: bytes) -> None:
        self.written += data
        self._waiting += self.answer

    def read(self, timeout: float) -> bytes:
        assert timeout <= self.timeout
        data, self._waiting = self._waiting, b""
        return data

    def close(self) -> None:
        self.closed += 1

    def describe(self) -> str:
        return "silent port"


def dense_artefact(
    config: EngineConfig = CONFIG, inputs: int = 10, outputs: int = 7, batch: int = 5, seed: int = 1
) -> Artefact:
    """One dense layer with bias and ReLU on random integers; expected outputs by plain arithmetic.

    Samples are the lanes. Features lie further apart than ``batch``, so input and output have gaps
    in memory.
    """
    rng = np.random.default_rng(seed)
    pitch = batch + 3
    weights = rng.integers(-100, 100, (outputs, inputs))
    bias = rng.integers(-(1 << 14), 1 << 14, outputs)
    x_base, y_base, shift = 6, 6 + inputs * pitch + 5, 6
    stage = Stage(
        k_loops=(Loop(inputs, x=pitch),),
        row_loops=(Loop(outputs, y=pitch, bias=1),),
        column_loops=(),
        lane_count=batch,
        lane_x=1,
        lane_y=1,
        x_base=x_base,
        y_base=y_base,
        core_base=2,
        bias_base=3,
        shift=shift,
        activation="relu",
    )
    tiles = stage.row_tiles(config)
    padded = np.zeros((tiles * config.rows, inputs), np.int64)
    padded[:outputs] = weights
    vectors = padded.reshape(tiles, config.rows, inputs).transpose(0, 2, 1)
    cores = np.zeros((2 + tiles * inputs, config.rows), np.int64)
    cores[2:] = vectors.reshape(-1, config.rows)
    biases = np.zeros((3 + outputs, config.lanes), np.int64)
    biases[3:] = bias[:, None]

    # Two runs and a ragged third one.
    low, high = config.data_min // 64, config.data_max // 64
    x = rng.integers(low, high, (2 * batch + 2, inputs))
    total = x @ weights.T + bias
    whole, rest = np.divmod(total, 1 << shift)
    half = 1 << (shift - 1)
    rounded = whole + ((rest > half) | ((rest == half) & (whole % 2 == 1)))
    y = np.clip(rounded, 0, config.data_max)
    program = encode([stage], config)
    cycles = sum(program_cycles([stage], config), Cycles()).total
    return Artefact(
        name="dense",
        config=config,
        program=program,
        cores=cores,
        biases=biases,
        loads=(
            Load(Space.PROGRAM, 0, 0, len(program)),
            Load(Space.CORE, 0, 0, len(cores)),
            Load(Space.BIAS, 0, 0, len(biases)),
        ),
        buffers=(
            Buffer(
                (Pass(0, 0, cycles),),
                TensorLayout(x_base, (inputs,), (pitch,), 1, 4),
                TensorLayout(y_base, (outputs,), (pitch,), 1, 3),
            ),
        ),
        batch=batch,
        cycles=cycles,
        layers=(),
        test_input=x,
        test_output=y,
    )
