"""One device: a board, the simulated board or the golden model, behind the link protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from drawbar.gen.artefact import Artefact, TensorLayout
from drawbar.gen.errors import ArtefactError, InputError, LinkError
from drawbar.gen.presets import PRESETS
from drawbar.gen.protocol import Counters, Identity
from drawbar.sw.driver.ending import ending_after
from drawbar.sw.driver.images import Image, memory_images
from drawbar.sw.driver.link import Link, LinkStatistics, Progress
from drawbar.sw.driver.stream import Places, RunStream
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
        Of each run, all its passes; measured by the device, and equal to the artefact's.
    counters:
        Of the last pass, by the device; None where there were no samples.
    waits:
        What the device said each time it was waited for, once a pass, of which a run has one unless
        cores stream in: counters of that pass, or of the one after it where that had ended by then,
        too. In steady state the sum of ``cycles + idle`` is what one run takes, transfers and all.
    seconds:
        On the host, transfers included.
    retries:
        Frames that the link had to send again.
    """

    samples: int
    runs: int
    cycles: int
    counters: Counters | None
    waits: tuple[Counters, ...]
    seconds: float
    retries: int


@dataclass(frozen=True)
class VerifyReport:
    """What ``Device.verify`` found: output elements compared, in every buffer, and those that
    differ in any bit.

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
        self._loaded: Places | None = None

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
        # A run that somebody gave up may still be under way, and reads what is written here.
        self.link.wait(patience=RUN_MARGIN * artefact.cycles / self._clock_hz(artefact))
        total = 2 * sum(len(image.data) for image in images)
        done = 0

        def moved(now: int, _: int) -> None:
            if progress is not None:
                progress(done + now, total)

        for image in images:
            self.link.write(image.space, image.first, image.data, image.size, moved)
            done += len(image.data)
        for image in images:
            found = self.link.read(image.space, image.first, len(image.data), image.size, moved)
            done += len(image.data)
            self._check_image(image, found)
        self._loaded = Places(artefact)

    def run(self, x: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Outputs ``(batch, outputs)``, float64, for real inputs ``(batch, inputs)``, any batch.

        Of a model with states, those of the last step for sequences ``(batch, steps, inputs)``.

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
        return self._run(self._checked(x), progress)

    def run_until(
        self,
        x: np.ndarray,
        stage: int,
        output: TensorLayout,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """As ``run_integers``, but the program ends after its stage of this number, of sequences in
        the last step, and a tensor of any layout is read. The artefact is loaded and whole again
        afterwards.
        """
        whole = self._need()
        artefact = whole.artefact
        x = self._checked(x)
        if artefact.steps and x.shape[1] > 1:
            # Step by step, as only the last one ends early: the others leave their states for it.
            found = []
            for start in range(0, len(x), artefact.batch):
                part = x[start : start + artefact.batch]
                self._run(part[:, :-1])
                self._loaded = Places(replace(artefact, steps=0, states=()))
                found.append(self.run_until(part[:, -1], stage, output))
                self._loaded = whole
            return np.concatenate(found)
        with ending_after(self.link, artefact, stage) as shorter:
            buffer = replace(shorter.buffers[0], output=output)
            self._loaded = Places(replace(shorter, buffers=(buffer,)))
            y = self._run(x, progress)
        self._loaded = whole
        return y

    def verify(self) -> VerifyReport:
        """Run the loaded artefact's self-test on this device, every vector in every buffer, and
        compare every bit.

        Raises
        ------
        InputError:
            nothing is loaded.
        LinkError:
            silence, or a run whose cycles are not the predicted ones.
        """
        artefact = self._need().artefact
        x = np.asarray(artefact.test_input, np.int64)
        expected = np.asarray(artefact.test_output, np.int64)
        compared, mismatches, first = 0, 0, None
        for buffer in range(len(artefact.buffers)):
            found = self._run(self._checked(x), first=buffer)
            if found.shape != expected.shape:
                raise ArtefactError(
                    f"self-test of {artefact.name!r}",
                    f"has outputs of shape {found.shape}",
                    expected.shape,
                    "compile the model again",
                )
            wrong = np.argwhere(found != expected)
            compared += found.size
            mismatches += len(wrong)
            if len(wrong) and first is None:
                sample, output = (int(i) for i in wrong[0])
                first = (sample, output, int(expected[sample, output]), int(found[sample, output]))
        return VerifyReport(
            artefact=artefact.name,
            samples=len(expected),
            compared=compared,
            mismatches=mismatches,
            cycles=artefact.cycles,
            first=first,
        )

    # -- inside ------------------------------------------------------------------------------------

    def _need(self) -> Places:
        if self._loaded is None:
            raise InputError(
                self.transport.describe(),
                "has an artefact loaded before it runs",
                "nothing loaded, or a load or run that failed",
                "call load(artefact) first",
            )
        return self._loaded

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """The engine's integers, of the right shape and range."""
        artefact = self._need().artefact
        where = f"integer input of {artefact.name!r}"
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu":
            found = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(where, "is a NumPy array of integers", found, "use run() for floats")
        artefact.check_shape(x, where)
        low, high = artefact.config.data_min, artefact.config.data_max
        if x.size and (x.min() < low or x.max() > high):
            raise InputError(
                where,
                f"lies within {low}..{high}",
                f"{x.min()}..{x.max()}",
                "saturate it, or use run() for real numbers",
            )
        return x

    def _run(self, x: np.ndarray, progress: Progress | None = None, first: int = 0) -> np.ndarray:
        """All samples, the first ones in the buffer ``first``."""
        loaded = self._need()
        artefact = loaded.artefact
        started, retries = time.monotonic(), self.statistics.retries
        y = np.empty((0, artefact.output.features), np.int64)
        waits: tuple[Counters, ...] = ()
        if len(x):
            try:
                if artefact.steps:
                    y, waits = self._sequences(loaded, x, progress, first)
                else:
                    rate = self.transport.rate(artefact.config)
                    stream = RunStream(loaded, x, rate, first)
                    y, waits = self._stream(stream, artefact, len(x), progress)
            except BaseException:
                # Who knows what the device holds now.
                self._loaded = None
                raise
        self.last_run = RunReport(
            samples=len(x),
            runs=len(waits) // len(artefact.buffers[0].passes),
            cycles=artefact.cycles,
            counters=waits[-1] if waits else None,
            waits=waits,
            seconds=time.monotonic() - started,
            retries=self.statistics.retries - retries,
        )
        return y

    def _sequences(
        self, loaded: Places, x: np.ndarray, progress: Progress | None, first: int
    ) -> tuple[np.ndarray, tuple[Counters, ...]]:
        """All sequences, a batch after the other; no state goes from one to the next."""
        artefact = loaded.artefact
        outputs: list[np.ndarray] = []
        waits: tuple[Counters, ...] = ()
        for start in range(0, len(x), artefact.batch):
            steps = x[start : start + artefact.batch].swapaxes(0, 1)
            stream = RunStream(loaded, steps, self.transport.rate(artefact.config), first)
            y, own = self._stream(stream, artefact, steps.shape[1], None)
            outputs.append(y)
            waits += own
            if progress is not None:
                progress(start + len(y), len(x))
        return np.concatenate(outputs), waits

    def _stream(
        self, stream: RunStream, artefact: Artefact, samples: int, progress: Progress | None
    ) -> tuple[np.ndarray, tuple[Counters, ...]]:
        done = 0

        def moved(now: int, _: int) -> None:
            nonlocal done
            if progress is not None and stream.samples_done(now) > done:
                done = stream.samples_done(now)
                progress(done, samples)

        # One run may be under way and one pending.
        patience = RUN_MARGIN * len(artefact.buffers) * artefact.cycles / self._clock_hz(artefact)
        answers = self.link.exchange(stream.requests, patience=patience, progress=moved)
        waits = stream.counters(answers)
        for counters, expected in zip(waits, stream.expected, strict=True):
            if counters.cycles not in expected:
                raise LinkError(
                    f"{self.transport.describe()}, run of {artefact.name!r}",
                    f"takes exactly the predicted {expected[0]} cycles",
                    f"{counters.cycles} measured",
                    "load the artefact again, the device may have been reset; if it stays, report "
                    "it",
                )
        return stream.results(answers), waits

    def _clock_hz(self, artefact: Artefact) -> float:
        return self.transport.clock_hz or artefact.config.clock_hz

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
