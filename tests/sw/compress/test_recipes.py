"""Recipes: what their arms share, and where the control goes its own way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_recipes
import torch

from drawbar.gen.errors import ArtefactError
from drawbar.sw.compress.recipes import RECIPES, Recipe, run_recipe


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Two epochs with ADMM, one of fine-tuning, three of the control."""
    small = tiny_recipes.tiny(RECIPES["resnet-20-tt-short"])
    return replace(small, settings=replace(small.settings, admm_epochs=2), control={})


def test_the_control_has_as_many_epochs_and_settings_of_its_own(
    recipe: Recipe, tmp_path: Path
) -> None:
    data = tiny_recipes.noise_images()
    seen: list[tuple[int, int]] = []
    arms = run_recipe(recipe, data, folder=tmp_path, progress=lambda *told: seen.append(told[:2]))
    assert seen == [(k, 7) for k in range(1, 8)]
    assert arms.control is not None
    assert [row["phase"] for row in arms.compressed.history] == ["admm", "admm", "tuning"]
    assert [row["phase"] for row in arms.control.history] == ["tuning"] * 3

    # Its settings are its own: the other runs in the folder stay good, and its own does not.
    slower = replace(recipe, control={"tuning_lr": 1e-4})
    with pytest.raises(ArtefactError, match=r"control-0.*tuning_lr: 0\.01, now 0\.0001"):
        run_recipe(slower, data, folder=tmp_path)
    again = run_recipe(replace(recipe, control=None), data, folder=tmp_path)
    assert again.control is None
    for name, value in arms.compressed.model.state_dict().items():
        assert torch.equal(again.compressed.model.state_dict()[name], value)
