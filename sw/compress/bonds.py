"""Bond freedom: a change of basis along a bond leaves a layer's map as it is, and changes what
quantisation loses.

Of two cores that share a bond, one is multiplied by an invertible matrix and the other by its
inverse. The tensor that lives between them then has other values, and so have the cores. Two
changes are tried at each bond whose two cores stay apart in the plan, and kept where the quantised
model's output gets closer to the float one's:

- *rotate*: an orthogonal matrix after which all channels of the live tensor have the same power.
  With one scale for the whole tensor, the range then follows the mean power and not the largest.
- *scale*: a positive factor for each channel, after which each has the same largest value. It is
  pulled halfway only, as what the live tensor gains the next core loses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from drawbar.gen.network import ContractionNetwork, Core
from drawbar.gen.planned import Plan
from drawbar.sw.compress.quantise import check_calibration, float_stages

#: Mean squared error of a plan's quantised output, in whatever unit.
Error = Callable[[Plan], float]


@dataclass(frozen=True)
class Change:
    """What was done at one bond.

    Members
    -------
    kind:
        "rotate" or "scale".
    before, after:
        The output's error.
    """

    layer: str
    bond: str
    kind: str
    before: float
    after: float


@dataclass(frozen=True)
class _Bond:
    """A bond that a live tensor crosses: which layer, its two cores in the order of the plan."""

    layer: int
    index: str
    first: int
    second: int


def balance_bonds(
    plan: Plan, calibration: np.ndarray, error: Error, *, rounds: int = 1
) -> tuple[Plan, list[Change]]:
    """The plan with cores in better bases, and what was changed.

    Arguments
    ---------
    calibration:
        Real inputs ``(samples, inputs)``: powers and largest values of the live tensors are theirs.
    error:
        Decides. ``qat.output_error`` is one.
    rounds:
        How often to go through all bonds.

    Raises
    ------
    InputError:
        unusable calibration data.
    """
    x = check_calibration(plan, calibration)
    changes: list[Change] = []
    least = error(plan)
    for _ in range(rounds):
        for bond in _live_bonds(plan):
            name = plan.networks[bond.layer].name
            channels = _channels(plan, bond, x)
            before, best = least, None
            for kind, matrix in (("rotate", rotation(channels)), ("scale", scaling(channels))):
                candidate = _changed(plan, bond, matrix)
                found = error(candidate)
                if found < least:
                    least, best = found, (kind, candidate)
            if best is not None:
                changes.append(Change(name, bond.index, best[0], before, least))
                plan = best[1]
    return plan, changes


def rotation(channels: np.ndarray) -> np.ndarray:
    """An orthogonal matrix Q such that all channels of ``channels @ Q`` have the same power.

    Arguments
    ---------
    channels:
        ``(values, channels)``.

    Plane rotations (the constructive half of the Schur-Horn theorem): each takes a channel above
    the mean and one below it, and sets one of them to the mean. They end after channels - 1.
    """
    power = channels.T @ channels
    size = len(power)
    matrix = np.eye(size)
    mean = np.trace(power) / size
    left = list(range(size))
    while len(left) > 1:
        values = np.array([power[i, i] for i in left])
        high, low = left[int(values.argmax())], left[int(values.argmin())]
        a, b, c = power[high, high], power[low, low], power[high, low]
        if a - b <= 1e-12 * max(mean, 1e-300):
            break
        # With t the tangent: (a + 2 c t + b t^2) / (1 + t^2) is the mean; a is above, b below it.
        root = np.sqrt(c * c - (b - mean) * (a - mean))
        t = (-c + root) / (b - mean) if b != mean else -(a - mean) / (2 * c)
        cos = 1 / np.sqrt(1 + t * t)
        plane = np.eye(size)
        plane[[high, low, high, low], [high, low, low, high]] = cos, cos, -t * cos, t * cos
        power = plane.T @ power @ plane
        matrix = matrix @ plane
        left.remove(high)  # its power is the mean now
    return matrix


def scaling(channels: np.ndarray) -> np.ndarray:
    """A diagonal matrix that brings the channels' largest values halfway to one another."""
    most = np.abs(channels).max(axis=0)
    most = np.where(most > 0, most, 1.0)
    return np.diag(np.sqrt(np.exp(np.log(most).mean()) / most))


def _live_bonds(plan: Plan) -> list[_Bond]:
    """The bonds of two cores that different stages absorb."""
    found = []
    for layer, network in enumerate(plan.networks):
        stage_of = {
            core: number
            for number, planned in enumerate(plan.stages)
            if planned.layer == layer
            for core in planned.step.group
        }
        outside = {*network.input, *network.output, *network.taps}
        for index in network.sizes:
            cores = [n for n, core in enumerate(network.cores) if index in core.indices]
            if index not in outside and len(cores) == 2 and network.sizes[index] > 1:
                first, second = sorted(cores, key=lambda core: stage_of[core])
                if stage_of[first] != stage_of[second]:
                    found.append(_Bond(layer, index, first, second))
    return found


def _channels(plan: Plan, bond: _Bond, x: np.ndarray) -> np.ndarray:
    """The live tensor that the second core takes, ``(values, channels)``."""
    channels = None
    for planned, _, live in float_stages(plan, x):
        if planned.layer == bond.layer and bond.second in planned.step.group:
            break
        if planned.layer == bond.layer and bond.index in live.indices:
            axis = 1 + live.indices.index(bond.index)
            channels = np.moveaxis(live.values, axis, -1).reshape(-1, live.values.shape[axis])
    assert channels is not None
    return channels


def _changed(plan: Plan, bond: _Bond, matrix: np.ndarray) -> Plan:
    """The plan with the basis along a bond changed by this matrix."""
    network = plan.networks[bond.layer]
    cores = list(network.cores)
    cores[bond.first] = _along(cores[bond.first], bond.index, matrix)
    cores[bond.second] = _along(cores[bond.second], bond.index, np.linalg.inv(matrix).T)
    networks: list[ContractionNetwork] = list(plan.networks)
    networks[bond.layer] = replace(network, cores=tuple(cores))
    return replace(plan, networks=tuple(networks))


def _along(core: Core, index: str, matrix: np.ndarray) -> Core:
    """``core[..., i, ...] * matrix[i, j]``, summed over i."""
    axis = core.indices.index(index)
    values = np.moveaxis(np.moveaxis(core.values, axis, -1) @ matrix, -1, axis)
    return Core(core.indices, np.ascontiguousarray(values))
