"""A design placed and routed with several seeds at a time: processes here, or a Dask cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from drawbar.gen.errors import DrawbarError, ToolError
from drawbar.gen.fpga.tools import OutOfTime
from drawbar.gen.synthesis import PLACE_TIMEOUT, Routed, RouteJob, place_and_route

#: Seconds between two words to whoever watches.
_BEAT = 1.0

#: Told (seeds done, seconds so far).
SweepProgress = Callable[[int, float], None]


@dataclass(frozen=True)
class Attempt:
    """What became of one seed: a routed design, or the error that ended it."""

    seed: int
    routed: Routed | None = None
    error: DrawbarError | None = None


def _attempt(job: RouteJob, deadline: float, now: Callable[[], float] = time.time) -> Attempt:
    """One seed, until a moment of the wall's clock. It runs wherever it is sent."""
    left = deadline - now()
    try:
        if left <= 0:
            raise OutOfTime(
                f"seed {job.seed}", "starts before the time is up", "no time left", "raise --cap"
            )
        return Attempt(job.seed, place_and_route(job, timeout=left))
    except DrawbarError as error:
        return Attempt(job.seed, error=error)


def sweep(
    jobs: Sequence[RouteJob],
    *,
    cap: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: SweepProgress | None = None,
) -> list[Attempt]:
    """Place and route every job; the attempts are in the order of the jobs.

    Arguments
    ---------
    cap:
        Seconds for all of it; what is not done by then is stopped.
    workers:
        Processes at a time on this machine; by default one for each processor.
    scheduler:
        Address of a Dask scheduler, whose workers do it instead; they need Drawbar and the tools.

    Raises
    ------
    ToolError:
        a scheduler is given, and Dask is missing or the scheduler does not answer.
    """
    deadline = time.time() + (PLACE_TIMEOUT if cap is None else cap)
    if scheduler is not None:
        return _on_cluster(jobs, deadline, scheduler, progress)
    with ThreadPoolExecutor(min(len(jobs), workers or os.cpu_count() or 1)) as pool:
        futures = [pool.submit(_attempt, job, deadline) for job in jobs]
        _watch(futures, progress)
        return [future.result() for future in futures]


def _watch(futures: Sequence[Future[Attempt]], progress: SweepProgress | None) -> None:
    started = time.monotonic()
    left: set[Future[Attempt]] = set(futures)
    while left:
        _, left = wait(left, timeout=_BEAT)
        if progress is not None:
            progress(len(futures) - len(left), time.monotonic() - started)


def _on_cluster(
    jobs: Sequence[RouteJob], deadline: float, address: str, progress: SweepProgress | None
) -> list[Attempt]:
    try:
        client_of: Any = import_module("distributed").Client
    except ImportError:
        raise ToolError(
            "Dask",
            "is installed: a sweep on a cluster needs it",
            "nothing",
            "pip install 'drawbar[cluster]'",
        ) from None
    try:
        client: Any = client_of(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise ToolError(
            f"Dask scheduler {address!r}", "answers", error, "start one: dask scheduler"
        ) from None
    started = time.monotonic()
    with client:
        futures = [client.submit(_attempt, job, deadline, pure=False) for job in jobs]
        while not all(future.done() for future in futures):
            if progress is not None:
                done = sum(future.done() for future in futures)
                progress(done, time.monotonic() - started)
            time.sleep(_BEAT)
        return [future.result() for future in futures]
