"""Images of core and bias memory: where a stage's integers lie. NumPy only."""

from __future__ import annotations

import numpy as np

from drawbar.gen.config import EngineConfig
from drawbar.gen.network import ContractionNetwork
from drawbar.gen.order import BATCH
from drawbar.gen.plan import Plan, PlannedStage
from drawbar.gen.stage import Loop


def core_image(core: np.ndarray, config: EngineConfig, fold: int = 1) -> np.ndarray:
    """``(shared, rows, k)`` integers to the core vectors of a stage that folds so often,
    ``(shared * row tiles * k * fold, rows of array)``, zero padded.
    """
    shared, rows, k = core.shape
    tiles = -(-rows // (config.rows * fold))
    padded = np.zeros((shared, tiles * config.rows * fold, k), np.int64)
    padded[:, :rows] = core
    in_tiles = padded.reshape(shared, tiles, config.rows, fold, k)
    return in_tiles.transpose(0, 1, 4, 3, 2).reshape(-1, config.rows)


def place_bias(
    image: np.ndarray,
    biases: np.ndarray,
    network: ContractionNetwork,
    planned: PlannedStage,
    plan: Plan,
) -> None:
    """Write a layer's biases to where the stage's loops read them."""
    stage, config = planned.stage, plan.config
    assert stage.bias_base is not None
    # Which feature does each (column, lane, row) of the stage make? Samples make the same ones.
    features = network.bias_places().reshape([network.sizes[i] for i in network.output])
    indices = network.output
    if plan.batch > 1:
        features = np.broadcast_to(features, (plan.batch, *features.shape))
        indices = (BATCH, *indices)
    order = (
        *planned.shared_order,
        *planned.column_order,
        *planned.block,
        *planned.row_order,
    )
    features = features.transpose([indices.index(i) for i in order])
    features = features.reshape(-1, stage.lane_count, stage.rows)

    def vectors(loops: tuple[Loop, ...]) -> np.ndarray:
        offset = np.zeros(1, np.int64)
        for loop in loops:
            offset = (offset[:, None] + np.arange(loop.count) * loop.bias).reshape(-1)
        return offset

    lanes, own = np.arange(stage.lane_count), stage.lanes(config)
    vector = (
        stage.bias_base
        + vectors(stage.column_loops)[:, None, None]
        + (lanes // own * stage.lane_bias)[None, :, None]
        + vectors(stage.result_loops)[None, None, :]
    )
    # Each row of a row vector has its group of lanes.
    group = np.arange(stage.rows) % stage.fold * own
    image[vector, (lanes % own)[None, :, None] + group[None, None, :]] = biases[features]
