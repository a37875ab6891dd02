"""Weights stored in a few bits: training that knows it, and a file that holds nothing else.

A tensor of ``b`` bits has ``2**b`` values, the odd multiples of half a step from
``-(2**b - 1) / 2`` to ``(2**b - 1) / 2`` steps: symmetric, and no value is wasted on a second zero.
Its step is a power of two to the eighth of an integer, a byte in the file. Steps are trained with
the weights (Esser et al. 2020, learned step size quantisation); roundings pass gradients on.

The file: ``DBW1``; the CRC-32 (little-endian) of the names and shapes of all tensors and of what
follows; two bytes for each tensor, its bits and its step; the codes of all tensors, first bit
highest, without gaps; then what is stored as it is. The structure is the model's own: a file is
read into a model that has it, as with a ``state_dict``.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from drawbar.gen.errors import ArtefactError, InputError
from drawbar.sw.compress.backend import nn, torch

MAGIC = b"DBW1"
SUFFIX = ".packed"
#: Bits that a weight can have; 32: as it is.
MOST_BITS, WHOLE = 8, 32
#: Cores that a layer to be has, where their names are checked before there are any.
MOST_CORES = 32
#: Steps in an octave, and the exponents that a byte holds.
PER_OCTAVE = 8
LEAST_EXPONENT, MOST_EXPONENT = -128, 127


def bits_of(model: nn.Module, wanted: Mapping[str, int]) -> dict[str, int]:
    """Bits of each parameter of a model, by name.

    Arguments
    ---------
    wanted:
        Bits for patterns of parameter names, as in file names ("*", "fc1.*", "*.bias"); the last
        one that fits decides.

    Raises
    ------
    InputError:
        a pattern that fits no parameter, bits out of range, or a parameter that none fits.
    """
    names = [name for name, _ in model.named_parameters()]
    found = _matched(names, wanted)
    if missing := [name for name in names if name not in found]:
        raise InputError(
            "stored weights", "have bits for every parameter", ", ".join(missing), 'add "*" = 4'
        )
    return {name: found[name] for name in names}


def check_bits(model: nn.Module, wanted: Mapping[str, int]) -> None:
    """Raise what ``bits_of`` would of the model whose layers are not decomposed yet."""
    names = [name for name, _ in model.named_parameters()]
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            names += [f"{name}.cores.{number}" for number in range(MOST_CORES)]
    _matched(names, wanted)


def _matched(names: Sequence[str], wanted: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for pattern, bits in wanted.items():
        good = isinstance(bits, int) and not isinstance(bits, bool)
        if not good or not (1 <= bits <= MOST_BITS or bits == WHOLE):
            raise InputError(
                f"stored weights, {pattern!r}",
                f"have 1 to {MOST_BITS} bits, or {WHOLE}",
                bits,
                "use one of these",
            )
        fits = [name for name in names if fnmatchcase(name, pattern)]
        if not fits:
            raise InputError(
                "stored weights",
                "have bits for names of the model",
                pattern,
                'use names as "fc1.*", "fc1.cores.0", "*.bias"',
            )
        found |= dict.fromkeys(fits, bits)
    return found


def codes_of(tensor: torch.Tensor, bits: int, step: float) -> np.ndarray:
    """The codes 0 to ``2**bits - 1`` of the values nearest to a tensor's."""
    half = 1 << (bits - 1)
    scaled = np.floor(tensor.detach().cpu().double().numpy() / step)
    return (np.clip(scaled, -half, half - 1) + half).astype(np.uint8)


def values_of(codes: np.ndarray, bits: int, step: float) -> np.ndarray:
    """The values that codes stand for, in float64."""
    return (codes.astype(np.float64) + 0.5 - (1 << (bits - 1))) * step


def step_of(exponent: int) -> float:
    return 2.0 ** (exponent / PER_OCTAVE)


def best_exponent(tensor: torch.Tensor, bits: int) -> int:
    """The exponent of the step with the least squared error."""
    values = tensor.detach().cpu().double().numpy().ravel()
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0:
        return LEAST_EXPONENT
    # A step that spans the largest value, and those down to a sixteenth of it.
    top = int(np.ceil(PER_OCTAVE * np.log2(largest / (1 << (bits - 1)))))
    tried = range(top - 4 * PER_OCTAVE, top + 1)
    clipped = [min(max(e, LEAST_EXPONENT), MOST_EXPONENT) for e in tried]

    def error(exponent: int) -> float:
        step = step_of(exponent)
        found = values_of(codes_of(torch.from_numpy(values), bits, step), bits, step)
        return float(np.square(found - values).sum())

    return min(clipped, key=error)


class LowBitModel(nn.Module):
    """A model that computes with weights of a few bits, and trains the numbers that they round.

    Arguments
    ---------
    model:
        Is taken as it is: its parameters are what is trained.
    bits:
        Of each parameter, as ``bits_of`` gives them.

    Members
    -------
    exponents:
        Parameter; the step of tensor n is 2 to the power of ``round(8 * exponents[n]) / 8``.
    """

    def __init__(self, model: nn.Module, bits: Mapping[str, int]) -> None:
        super().__init__()
        self.model = model
        self.bits = dict(bits)
        self.few = [name for name, count in self.bits.items() if count != WHOLE]
        parameters = dict(model.named_parameters())
        first = [best_exponent(parameters[n], self.bits[n]) / PER_OCTAVE for n in self.few]
        like = next(iter(parameters.values()))
        self.exponents = nn.Parameter(torch.tensor(first, dtype=like.dtype, device=like.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(self.model, self.rounded(), (x,))

    def rounded(self) -> dict[str, torch.Tensor]:
        """The tensors of a few bits, differentiable in what they round and in their steps."""
        eighths = (self.exponents * PER_OCTAVE).clamp(LEAST_EXPONENT, MOST_EXPONENT)
        steps = torch.exp2(_passed(eighths, torch.round(eighths)) / PER_OCTAVE)
        parameters = dict(self.model.named_parameters())
        found = {}
        for name, step in zip(self.few, steps.unbind(), strict=True):
            half = 1 << (self.bits[name] - 1)
            scaled = (parameters[name] / step).clamp(-half, half)
            nearest = torch.floor(scaled).clamp(max=half - 1) + 0.5
            found[name] = _passed(scaled, nearest) * step
        return found

    def baked(self) -> tuple[nn.Module, bytes]:
        """The model with the values that are stored, and the file that stores them."""
        exponents = {
            name: min(max(round(PER_OCTAVE * e), LEAST_EXPONENT), MOST_EXPONENT)
            for name, e in zip(self.few, self.exponents.tolist(), strict=True)
        }
        data = pack(self.model, self.bits, exponents)
        return unpack(self.model, data), data


def _passed(numbers: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """What was rounded, with the gradient of the numbers before."""
    return numbers + (rounded - numbers).detach()


def pack(model: nn.Module, bits: Mapping[str, int], exponents: Mapping[str, int]) -> bytes:
    """A model's weights as the bytes of a file.

    Arguments
    ---------
    exponents:
        Of the step of each parameter of less than 32 bits, -128 to 127.
    """
    heads, streams, raw = bytearray(), [], bytearray()
    for name, tensor in _tensors(model):
        count = bits.get(name, WHOLE)
        if count == WHOLE:
            heads += bytes((WHOLE, 0))
            raw += _little(tensor.detach().cpu().numpy()).tobytes()
            continue
        heads += bytes((count, exponents[name] & 0xFF))
        codes = codes_of(tensor, count, step_of(exponents[name])).ravel()
        streams.append(np.unpackbits(codes[:, None], axis=1)[:, 8 - count :].ravel())
    stream = np.packbits(np.concatenate(streams)) if streams else np.zeros(0, np.uint8)
    body = bytes(heads) + stream.tobytes() + bytes(raw)
    return MAGIC + _check(model, body).to_bytes(4, "little") + body


def unpack(model: nn.Module, data: bytes, *, where: str = "packed weights") -> nn.Module:
    """A copy of a model with the weights of a file.

    Raises
    ------
    ArtefactError:
        not such a file, damaged, or of a model of another structure.
    """
    if data[:4] != MAGIC:
        raise ArtefactError(
            where, f"starts with {MAGIC.decode()}", data[:4], "give a file of packed weights"
        )
    body = data[8:]
    if _check(model, body) != int.from_bytes(data[4:8], "little"):
        raise ArtefactError(
            where,
            "is whole, and of a model of this structure",
            "another checksum",
            "give the model that it was made of, or save the weights again",
        )
    model = copy.deepcopy(model)
    tensors = list(_tensors(model))
    heads = [(body[2 * n], body[2 * n + 1]) for n in range(len(tensors))]
    pairs = list(zip(tensors, heads, strict=True))
    few = [(tensor, *head) for (_, tensor), head in pairs if head[0] != WHOLE]
    used = sum(tensor.numel() * count for tensor, count, _ in few)
    start = 2 * len(tensors)
    raw = start + -(-used // 8)
    stream = np.unpackbits(np.frombuffer(body[start:raw], np.uint8))
    at = 0
    with torch.no_grad():
        for tensor, count, exponent in few:
            size = tensor.numel() * count
            digits = stream[at : at + size].reshape(-1, count)
            codes = np.packbits(np.pad(digits, ((0, 0), (8 - count, 0))), axis=1).ravel()
            step = step_of(exponent - 256 if exponent > MOST_EXPONENT else exponent)
            found = torch.from_numpy(values_of(codes, count, step))
            tensor.copy_(found.reshape(tensor.shape))
            at += size
        for (_, tensor), head in pairs:
            if head[0] == WHOLE:
                like = _little(tensor.detach().cpu().numpy())
                found = np.frombuffer(body, like.dtype, like.size, raw).reshape(like.shape)
                tensor.copy_(torch.from_numpy(found.astype(like.dtype.newbyteorder("="))))
                raw += like.nbytes
    return model


def save_packed(data: bytes, path: str | Path) -> None:
    """Write what ``LowBitModel.baked`` gave.

    Raises
    ------
    ArtefactError:
        the file cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise ArtefactError(
            f"packed weights {path}", "can be written", error.strerror or error, "free its folder"
        ) from None


def load_packed(model: nn.Module, path: str | Path) -> nn.Module:
    """A copy of a model with the weights of a file; see ``unpack``.

    Raises
    ------
    ArtefactError:
        no such file, damaged, or of a model of another structure.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"packed weights {path}", "can be read", error.strerror or error, "give its path"
        ) from None
    return unpack(model, data, where=f"packed weights {path}")


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, those that layers share once, then buffers."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _check(model: nn.Module, body: bytes) -> int:
    described = [(name, list(tensor.shape)) for name, tensor in _tensors(model)]
    return zlib.crc32(json.dumps(described).encode() + body)


def _little(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), order="C")
