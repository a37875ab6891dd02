"""The demo's model: recipes, training from dense to TT, and the weights that ship."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

from drawbar.gen.errors import InputError
from drawbar.gen.model_file import load_pretrained
from drawbar.sw.compress import TTLinear, accuracy, load_dataset, lower, train_demo
from drawbar.sw.compress.data import DATASETS
from drawbar.sw.compress.demo_model import RECIPES
from drawbar.sw.compress.modes import useful_ranks


@pytest.fixture(scope="module")
def digits():  # type: ignore[no-untyped-def]
    return load_dataset("digits")


def test_there_is_a_recipe_for_every_data_set() -> None:
    assert (*RECIPES, "cifar10") == DATASETS  # its network is convolutional
    assert [prod(recipe.modes_in) for recipe in RECIPES.values()] == [64, 784, 784]
    for recipe in RECIPES.values():  # as warnings are errors: no rank is clipped
        useful_ranks(recipe.modes_1, recipe.modes_in, ranks=recipe.ranks_1)
        useful_ranks(recipe.modes_2, recipe.modes_1, ranks=recipe.ranks_2)


def test_short_training(digits, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    short = replace(RECIPES["digits"], dense_epochs=4, tuning_epochs=6)
    monkeypatch.setitem(RECIPES, "digits", short)
    torch.set_num_threads(2)  # another number than the recipe's
    state = torch.get_rng_state()
    seen: list[tuple[int, int, str]] = []
    model = train_demo(digits, "digits", progress=lambda *what: seen.append(what))
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert [(done, total) for done, total, _ in seen] == [(n, 10) for n in range(1, 11)]
    assert [text.partition(":")[0] for _, _, text in seen] == ["dense"] * 4 + ["TT cores"] * 6
    assert list(dict(model.named_children())) == ["fc1", "relu1", "fc2", "relu2", "fc3"]
    assert isinstance(model.fc1, TTLinear)
    assert isinstance(model.fc2, TTLinear)
    assert (model.fc1.ranks, model.fc2.ranks) == ((1, 8, 8, 1), (1, 8, 8, 1))
    assert accuracy(model, digits.test_x, digits.test_y) > 90
    lowered = lower(model, "digits")
    expected = model.double()(torch.from_numpy(digits.test_x).double()).detach().numpy()
    found = lowered.forward(digits.test_x.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    again = train_demo(digits, "digits")
    state_1, state_2 = model.float().state_dict(), again.state_dict()
    assert all(torch.equal(state_1[key], state_2[key]) for key in state_2)


def test_wrong_name_or_size(digits) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="is one of digits, mnist, fashion-mnist"):
        train_demo(digits, "imagenet")
    with pytest.raises(InputError, match="has the 784 features of the mnist model; found 64"):
        train_demo(digits, "mnist")


def test_shipped_weights_are_the_demo_model_and_accurate(digits) -> None:  # type: ignore[no-untyped-def]
    model = load_pretrained("digits")
    assert [(y.name, y.format, y.activation) for y in model.layers] == [
        ("fc1", "tt", "relu"),
        ("fc2", "tt", "relu"),
        ("fc3", "dense", "none"),
    ]
    recipe = RECIPES["digits"]
    assert model.layers[0].modes_in == recipe.modes_in
    assert model.layers[0].modes_out == model.layers[1].modes_in == recipe.modes_1
    assert model.layers[1].modes_out == recipe.modes_2
    assert model.layers[0].ranks == (1, *recipe.ranks_1, 1)
    right = model.forward(digits.test_x).argmax(axis=1) == digits.test_y
    assert 100 * right.mean() >= 97
