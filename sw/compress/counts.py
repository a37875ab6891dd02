"""Weights of published networks, exactly: what the papers' compression ratios divide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drawbar.gen.errors import InputError
from drawbar.sw.compress.formats import Spec, get_format
from drawbar.sw.compress.recurrent import recurrent_spec
from drawbar.sw.compress.resnet import blocks

#: UCF11: frames of 160 x 120 in three colours to an LSTM of 256 (Yang et al. 2017; Ye et al. 2018;
#: Pan et al. 2019), as the arguments of the input map in each format.
UCF11: dict[str, dict[str, Any]] = {
    "tt": {"modes_in": (8, 20, 20, 18), "modes_out": (4, 4, 4, 4), "max_rank": 4},
    "tensor_ring": {
        "modes_in": (4, 2, 5, 8, 6, 5, 3, 2),
        "modes_out": (4, 4, 2, 4, 2),
        "ranks": (10, *(5,) * 12),
        "clip": False,
    },
    "block_term": {
        "modes_in": (8, 20, 20, 18),
        "modes_out": (4, 4, 4, 4),
        "max_rank": 4,
        "terms": 2,
    },
}
UCF11_INPUTS, UCF11_HIDDEN = 57_600, 256


def ucf11_lstm(format: str) -> Spec:
    """The input map of the UCF11 LSTM in one of the formats in ``UCF11``."""
    if format not in UCF11:
        raise InputError("UCF11 LSTM, format", f"is one of {', '.join(UCF11)}", format, "use one")
    return recurrent_spec(
        "lstm", UCF11_INPUTS, UCF11_HIDDEN, format=format, name="lstm", **UCF11[format]
    )


@dataclass(frozen=True)
class ConvShape:
    """One convolution of a residual network, with the modes of Wang et al. (2018)."""

    name: str
    shape: tuple[int, int, int, int]
    modes_out: tuple[int, ...]
    modes_in: tuple[int, ...]


#: Modes of the channels in residual networks for CIFAR.
CHANNEL_MODES = {3: (3, 1, 1), 16: (4, 2, 2), 32: (4, 4, 2), 64: (4, 4, 4)}
CLASSES = 10


def resnet_convolutions(depth: int) -> Iterator[ConvShape]:
    """The 3 x 3 convolutions of ResNet-20, -32 and so on for CIFAR (He et al. 2016, option A).

    Raises
    ------
    InputError:
        a depth other than 6 n + 2.
    """
    count = blocks(depth)
    inputs = 3
    names = ["conv1"]
    for stage in range(1, 4):
        names += [f"layer{stage}.{k}.conv{i}" for k in range(count) for i in (1, 2)]
    for name in names:
        outputs = {"1": 16, "2": 32, "3": 64}[name[5]] if name != "conv1" else 16
        yield ConvShape(
            name, (outputs, inputs, 3, 3), CHANNEL_MODES[outputs], CHANNEL_MODES[inputs]
        )
        inputs = outputs


def resnet_weights(depth: int, format: str | None = None, **asked: Any) -> int:
    """All weights of a residual network for CIFAR-10: convolutions, the scales and shifts of batch
    normalisation, and the dense classifier.

    Arguments
    ---------
    format:
        Of every convolution; dense without it.
    asked:
        What ``Format.spec`` takes besides modes. Published counts have ranks as asked, beyond the
        largest useful ones too: ``clip=False``, and ``grow=True``, as at such ranks the smallest
        layers grow.
    """
    total = 64 * CLASSES + CLASSES
    for conv in resnet_convolutions(depth):
        total += 2 * conv.shape[0]
        if format is None:
            spec_weights = conv.shape[0] * conv.shape[1] * 9
        else:
            spec_weights = (
                get_format(format)
                .spec(
                    conv.shape,
                    name=conv.name,
                    modes_out=conv.modes_out,
                    modes_in=conv.modes_in,
                    **asked,
                )
                .parameters
            )
        total += spec_weights
    return total
