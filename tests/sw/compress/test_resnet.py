"""Residual networks: the published counts, the shapes, the shortcuts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drawbar.gen.errors import InputError
from drawbar.sw.compress.counts import resnet_convolutions, resnet_weights
from drawbar.sw.compress.layers import decompose
from drawbar.sw.compress.recipes import RECIPES, reference_model
from drawbar.sw.compress.resnet import Block, ResNet


@pytest.mark.parametrize(("depth", "weights"), [(20, 269_722), (32, 464_154)])
def test_weights_are_the_published_ones(depth: int, weights: int) -> None:
    model = reference_model(f"resnet-{depth}")
    assert sum(p.numel() for p in model.parameters()) == weights == resnet_weights(depth)
    # The counts of decomposed networks go through the same layers.
    found = [(n, m.weight.shape) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert found == [(conv.name, conv.shape) for conv in resnet_convolutions(depth)]


def test_the_decomposed_networks_have_the_counted_weights() -> None:
    """TT and STT at rank 14, as in arXiv 2109.15200: the model itself, layer by layer."""
    asked = {"max_rank": 14, "clip": False, "grow": True}
    model = reference_model("resnet-20")
    for format, more, ratio in (("tt", {}, 2.5), ("stt", {"t": 2}, 9.0)):
        made = decompose(
            model,
            {
                conv.name: {
                    "format": format,
                    "modes_out": conv.modes_out,
                    "modes_in": conv.modes_in,
                    **asked,
                    **more,
                }
                for conv in resnet_convolutions(20)
            },
        )
        weights = sum(p.numel() for p in made.parameters())
        assert weights == resnet_weights(20, format, **asked, **more)
        assert round(269_722 / weights, 1) == ratio


def test_shapes_and_the_recipe() -> None:
    recipe = RECIPES["resnet-20-tt-short"]
    model = reference_model(recipe.model)
    small = decompose(model, recipe.layers)
    assert sum(p.numel() for p in small.parameters()) == 39_448 <= 269_722 / 6.8
    x = torch.rand(2, 3072)
    sizes = {}
    for number in (1, 2, 3):
        stage = small.get_submodule(f"layer{number}")
        stage.register_forward_hook(lambda _m, _i, y, n=number: sizes.update({n: y.shape[1:]}))
    assert small(x).shape == (2, 10)
    assert sizes == {1: (16, 32, 32), 2: (32, 16, 16), 3: (64, 8, 8)}


def test_pixels_are_normalised() -> None:
    model = ResNet(8).eval()
    seen = []
    model.conv1.register_forward_hook(lambda _m, inputs, _y: seen.append(inputs[0]))
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).repeat_interleave(1024)
    model(torch.stack([mean, mean + 0.25]))
    assert seen[0][0].abs().max() < 1e-6
    torch.testing.assert_close(seen[0][1, 0], torch.full((32, 32), 0.25 / 0.2470))


def test_a_block_that_adds_nothing_is_its_shortcut() -> None:
    x = torch.rand(2, 4, 6, 6)
    for inputs, outputs in ((4, 4), (4, 8)):
        block = Block(inputs, outputs).eval()
        nn.init.zeros_(block.conv2.weight)
        y = block(x)
        if outputs == inputs:
            assert torch.equal(y, x)
        else:
            assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
            assert not y[:, :2].any()
            assert not y[:, 6:].any()


def test_depth() -> None:
    with pytest.raises(InputError, match=r"is 6 n \+ 2"):
        ResNet(18)
