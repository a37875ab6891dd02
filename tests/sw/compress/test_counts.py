"""Published counts of weights, exactly."""

from __future__ import annotations

import pytest

from drawbar.gen.errors import InputError
from drawbar.sw.compress.counts import resnet_convolutions, resnet_weights, ucf11_lstm


@pytest.mark.parametrize(
    ("format", "weights", "ratio"),
    [("tt", 3_360, 17_554), ("tensor_ring", 1_725, 34_193), ("block_term", 3_392, 17_389)],
)
def test_the_ucf11_lstm(format: str, weights: int, ratio: int) -> None:
    spec = ucf11_lstm(format)
    assert spec.shape == (4 * 256, 57_600)
    assert spec.parameters == weights
    assert round(spec.dense_weights / weights) == ratio


@pytest.mark.parametrize(
    ("depth", "dense", "train", "semi_tensor"), [(20, 269_722, 2.5, 9.0), (32, 464_154, 2.6, 9.5)]
)
def test_residual_networks(depth: int, dense: int, train: float, semi_tensor: float) -> None:
    """The paper's ratios at rank 14 (arXiv 2109.15200), to the digits that it gives."""
    assert resnet_weights(depth) == dense
    asked = {"max_rank": 14, "clip": False, "grow": True}
    assert round(dense / resnet_weights(depth, "tt", **asked), 1) == train
    assert round(dense / resnet_weights(depth, "stt", t=2, **asked), 1) == semi_tensor


def test_a_residual_network_has_a_convolution_for_each_layer() -> None:
    convolutions = list(resnet_convolutions(20))
    assert len(convolutions) == 19
    assert [c.shape[:2] for c in convolutions[:2] + convolutions[7:9]] == [
        (16, 3),
        (16, 16),
        (32, 16),
        (32, 32),
    ]


def test_no_such_network() -> None:
    with pytest.raises(InputError, match="depth: is 6 n"):
        resnet_weights(18)
    with pytest.raises(InputError, match="UCF11 LSTM, format: is one of"):
        ucf11_lstm("cp")
