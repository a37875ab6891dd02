"""One device: a board, the simulated board or the golden model, behind the link protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from drawbar.gen.artefact import Artefact
from drawbar.gen.config import PRESETS, EngineConfig
from drawbar.gen.errors import ArtefactError, InputError, LinkError
from drawbar.gen.protocol import Counters, Identity, Op, Space, item_bytes
from drawbar.sw.driver.frames import Request, read_requests, run_request, write_requests
from drawbar.sw.driver.images import Image, memory_images
from drawbar.sw.driver.link import Link, LinkStatistics, Progress
from drawbar.sw.driver.transport import Transport

#: A run may take this many times its computed time before the driver gives it up.
RUN_MARGIN = 2.0


@dataclass(frozen=True)
class RunReport:
    """What the latest ``Device.run`` did.

    Members
    -------
    samples, runs:
        Samples given, and runs of the program that took.
    cycles:
        Of each run; measured by the device, and equal to the artefact's.
    counters:
        The device's counters after the last run; None where there were no samples.
    seconds:
        On the host, transfers included.
    retries:
        Frames that the link had to send again.
    """

    samples: int
    runs: int
    cycles: int
    counters: Counters | None
    seconds: float
    retries: int


@dataclass(frozen=True)
class VerifyReport:
    """What ``Device.verify`` found: output elements compared, and those that differ in any bit.

    ``first`` is the first difference: sample, output, expected integer, found integer.
    """

    artefact: str
    samples: int
    compared: int
    mismatches: int
    cycles: int
    first: tuple[int, int, int, int] | None

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.mismatches == 0


@dataclass(frozen=True)
class _Loaded:
    """A loaded artefact with what each run needs, computed once."""

    artefact: Artefact
    x_first: int
    x_index: np.ndarray
    x_span: int
    y_first: int
    y_index: np.ndarray
    y_span: int

    @classmethod
    def of(cls, artefact: Artefact) -> _Loaded:
        x, y = artefact.input.addresses(artefact.batch), artefact.output.addresses(artefact.batch)
        x_first, y_first = int(x.min()), int(y.min())
        return cls(
            artefact,
            x_first,
            x - x_first,
            int(x.max()) - x_first + 1,
            y_first,
            y - y_first,
            int(y.max()) - y_first + 1,
        )


class Device:
    """A device behind a transport; ``with Device(transport) as device`` opens its session and
    closes the transport.

    Members
    -------
    last_run:
        Report of the latest ``run`` or ``run_integers``; None before the first.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.link = Link(transport)
        self.last_run: RunReport | None = None
        self._loaded: _Loaded | None = None

    def __enter__(self) -> Self:
        try:
            if self.transport.ready:
                self.identify()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the transport; closing it again does nothing."""
        self._loaded = None
        self.transport.close()

    @property
    def statistics(self) -> LinkStatistics:
        """What the link sent, received and repeated since it was opened."""
        return self.link.statistics

    @property
    def artefact(self) -> Artefact | None:
        """The loaded artefact."""
        return self._loaded.artefact if self._loaded else None

    def identify(self) -> Identity:
        """Open a session and learn what the device is. What is loaded stays.

        Raises
        ------
        LinkError:
            silence, or another version of the protocol.
        """
        return self.link.identify()

    def status(self) -> Counters:
        """The device's counters."""
        return self.link.status()

    def load(self, artefact: Artefact, progress: Progress | None = None) -> None:
        """Write an artefact's program, cores and biases to the device, and read them back.

        Arguments
        ---------
        progress:
            Called with the bytes moved and the bytes to move, both ways together.

        Raises
        ------
        ArtefactError:
            the artefact was made for another engine, or does not fit its own; the device is
            untouched.
        LinkError:
            silence, or a memory that does not hold what was written.
        """
        if self.transport.prepare(artefact.config):
            self.link = Link(self.transport)
        _check_engine(artefact, self.link.identity, self.transport.describe())
        images = memory_images(artefact)
        self._loaded = None
        total = 2 * sum(len(image.data) for image in images)
        done = 0

        def moved(now: int, _: int) -> None:
            if progress is not None:
                progress(done + now, total)

        for image in images:
            self.link.write(image.space, 0, image.data, image.size, moved)
            done += len(image.data)
        for image in images:
            found = self.link.read(image.space, 0, len(image.data), image.size, moved)
            done += len(image.data)
            self._check_image(image, found)
        self._loaded = _Loaded.of(artefact)

    def run(self, x: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Outputs ``(batch, outputs)``, float64, for real inputs ``(batch, inputs)``, any batch.

        Arguments
        ---------
        progress:
            Called with the samples done and the samples there are.

        Raises
        ------
        InputError:
            nothing is loaded; inputs of the wrong shape or type, NaN or infinity.
        LinkError:
            silence, or a run whose cycles are not the predicted ones.
        """
        artefact = self._need().artefact
        return artefact.dequantise_output(self._run(artefact.quantise_input(x), progress))

    def run_integers(self, x: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Outputs ``(batch, outputs)``, int64, for the engine's integers ``(batch, inputs)``; else
        as ``run``.
        """
        artefact = self._need().artefact
        where = f"integer input of {artefact.name!r}"
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu":
            found = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(where, "is a NumPy array of integers", found, "use run() for floats")
        if x.ndim != 2 or x.shape[1] != artefact.input.features:
            raise InputError(
                where,
                f"has shape (batch, {artefact.input.features})",
                x.shape,
                "reshape it to one row for each sample",
            )
        low, high = artefact.config.data_min, artefact.config.data_max
        if x.size and (x.min() < low or x.max() > high):
            raise InputError(
                where,
                f"lies within {low}..{high}",
                f"{x.min()}..{x.max()}",
                "saturate it, or use run() for real numbers",
            )
        return self._run(x, progress)

    def verify(self) -> VerifyReport:
        """Run the loaded artefact's self-test on this device and compare every bit.

        Raises
        ------
        InputError:
            nothing is loaded.
        LinkError:
            silence, or a run whose cycles are not the predicted ones.
        """
        artefact = self._need().artefact
        found = self.run_integers(np.asarray(artefact.test_input, np.int64))
        expected = np.asarray(artefact.test_output, np.int64)
        if found.shape != expected.shape:
            raise ArtefactError(
                f"self-test of {artefact.name!r}",
                f"has outputs of shape {found.shape}",
                expected.shape,
                "compile the model again",
            )
        wrong = np.argwhere(found != expected)
        first = None
        if len(wrong):
            sample, output = (int(i) for i in wrong[0])
            first = (sample, output, int(expected[sample, output]), int(found[sample, output]))
        return VerifyReport(
            artefact=artefact.name,
            samples=len(expected),
            compared=expected.size,
            mismatches=len(wrong),
            cycles=artefact.cycles,
            first=first,
        )

    # -- inside ------------------------------------------------------------------------------------

    def _need(self) -> _Loaded:
        if self._loaded is None:
            raise InputError(
                self.transport.describe(),
                "has an artefact loaded before it runs",
                "nothing loaded, or a load or run that failed",
                "call load(artefact) first",
            )
        return self._loaded

    def _run(self, x: np.ndarray, progress: Progress | None) -> np.ndarray:
        loaded = self._need()
        batch = loaded.artefact.batch
        started, retries = time.monotonic(), self.statistics.retries
        y = np.empty((len(x), loaded.artefact.output.features), np.int64)
        counters, runs = None, 0
        for start in range(0, len(x), batch):
            piece = x[start : start + batch]
            try:
                y[start : start + batch], counters = self._run_once(loaded, piece)
            except BaseException:
                # Who knows what the device holds now.
                self._loaded = None
                raise
            runs += 1
            if progress is not None:
                progress(start + len(piece), len(x))
        self.last_run = RunReport(
            samples=len(x),
            runs=runs,
            cycles=loaded.artefact.cycles,
            counters=counters,
            seconds=time.monotonic() - started,
            retries=self.statistics.retries - retries,
        )
        return y

    def _run_once(self, loaded: _Loaded, x: np.ndarray) -> tuple[np.ndarray, Counters]:
        """One run of the program on at most ``batch`` samples; the rest of the batch is zeros."""
        artefact = loaded.artefact
        config = artefact.config
        dtype = _element(config)
        size = item_bytes(config, Space.WORK)
        memory = np.zeros(loaded.x_span, dtype)
        memory[loaded.x_index[: len(x)]] = x
        requests = [
            *write_requests(Space.WORK, loaded.x_first, memory.tobytes(), size),
            run_request(0),
            # The device executes in order: this waits for the end of the run.
            *read_requests(Space.WORK, loaded.y_first, loaded.y_span * size, size),
            Request(Op.STATUS),
        ]
        clock_hz = self.transport.clock_hz or config.clock_hz
        patience = RUN_MARGIN * artefact.cycles / clock_hz
        answers = self.link.exchange(requests, patience=patience)
        counters = Counters.unpack(answers[-1])
        if counters.running or counters.cycles != artefact.cycles:
            raise LinkError(
                f"{self.transport.describe()}, run of {artefact.name!r}",
                f"takes exactly the predicted {artefact.cycles} cycles",
                f"{counters.cycles} measured{', still running' if counters.running else ''}",
                "load the artefact again, the device may have been reset; if it stays, report it",
            )
        # A WRITE or RUN is answered without a payload, so what comes before the counters is the
        # output.
        y = np.frombuffer(b"".join(answers[:-1]), dtype)
        return y[loaded.y_index[: len(x)]].astype(np.int64), counters

    def _check_image(self, image: Image, found: bytes) -> None:
        wrong = image.first_difference(found)
        if wrong is not None:
            item, expected, value = wrong
            raise LinkError(
                f"{self.transport.describe()}, {image.space.name} memory",
                f"holds what was written, {expected} at item {item}",
                value,
                "load again; if it stays, check the board's power supply and clock",
            )


def _element(config: EngineConfig) -> np.dtype:
    return np.dtype("<i1" if config.data_width == 8 else "<i2")


def _name_of(config_hash: bytes) -> str:
    names = [name for name, config in PRESETS.items() if config.hash == config_hash]
    return f"preset {names[0]!r}" if names else "not a preset of this version"


def _check_engine(artefact: Artefact, identity: Identity, where: str) -> None:
    if artefact.config.hash != identity.config_hash:
        raise ArtefactError(
            f"artefact {artefact.name!r}",
            f"is made for the engine of {where}, {identity.config_hash.hex()} "
            f"({_name_of(identity.config_hash)})",
            f"one for {artefact.config.hash.hex()} ({artefact.config.name!r})",
            "compile the model for that engine, or open a device with this one",
        )
