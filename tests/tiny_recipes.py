"""A run of a recipe for CIFAR-10 that takes seconds: images of noise, one epoch of each phase."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.recipes import Recipe


def noise_images() -> Dataset:
    """16 images to train with, and 24 to test."""
    rng = np.random.default_rng(3)
    x = rng.uniform(size=(24, 3072)).astype(np.float32)
    y = rng.integers(10, size=24)
    return Dataset("cifar10", x[:16], y[:16], x, y, 10)


def tiny(recipe: Recipe) -> Recipe:
    settings = replace(
        recipe.settings, dense_epochs=1, admm_epochs=1, tuning_epochs=1, batch_size=8, shift=0
    )
    return replace(recipe, settings=settings, control=None)
