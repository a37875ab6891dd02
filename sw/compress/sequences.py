"""Classifiers of sequences: recurrent cells and a linear layer on their last state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from drawbar.gen.errors import InputError
from drawbar.sw.compress import speech
from drawbar.sw.compress.backend import nn, torch
from drawbar.sw.compress.checkpoint import load_checkpoint, save_checkpoint
from drawbar.sw.compress.data import Dataset
from drawbar.sw.compress.formats import get_format
from drawbar.sw.compress.gradients import Gradients
from drawbar.sw.compress.recurrent import FactorisedRNN, recurrent_spec
from drawbar.sw.compress.train import Cosine, Progress, as_tensors, seeded, train_epoch


class SequenceClassifier(nn.Module):
    """Classes ``(batch, outputs)`` of sequences ``(batch, steps, inputs)``, which may be flat:
    ``(batch, steps * inputs)``.

    Arguments
    ---------
    cell:
        Recurrent cells of one layer, with ``batch_first``.
    head:
        From the last state to the outputs.
    """

    def __init__(self, cell: FactorisedRNN | nn.LSTM | nn.GRU, head: nn.Module) -> None:
        super().__init__()
        if not cell.batch_first:
            raise InputError(
                "cells of a sequence classifier", "have batch_first", False, "set batch_first=True"
            )
        self.cell, self.head = cell, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.cell(x.reshape(len(x), -1, self.cell.input_size))
        return self.head(states[:, -1])


def spoken_digits(seed: int = 0) -> SequenceClassifier:
    """The LSTM of the benchmark: 64 units, with tensor trains from inputs to gates (rank 8) and
    from state to gates (rank 16): 7,946 weights, where dense maps have 33,930 together.
    """
    with seeded(seed):
        maps = []
        for name, inputs, modes, rank in (
            ("input", speech.FEATURES, (4, 4, 4), 8),
            ("state", 64, (8, 8), 16),
        ):
            spec = recurrent_spec(
                "lstm", inputs, 64, name=name, modes_in=modes, modes_out=modes, max_rank=rank
            )
            maps.append(get_format(spec.format).layer(spec, bias=True))
        cell = FactorisedRNN("lstm", *maps, batch_first=True)
        assert cell.input_map.bias is not None
        with torch.no_grad():
            # What is remembered at first stays for a while.
            cell.input_map.bias[64:128] = 1.0
        return SequenceClassifier(cell, nn.Linear(64, 10))


@dataclass(frozen=True)
class Training:
    """How ``train_spoken_digits`` trains: Adam with decoupled weight decay, a cosine, and sequences
    that are changed anew in each epoch.

    Members
    -------
    smoothing:
        Of the classes (label smoothing).
    shift, mask, noise:
        Steps by which a sequence is moved at most, bands that are silenced at most, and standard
        deviation of what is added.
    """

    epochs: int = 40
    batch_size: int = 64
    lr: float = 5e-3
    weight_decay: float = 1e-2
    smoothing: float = 0.05
    shift: int = 3
    mask: int = 6
    noise: float = 0.03


def train_spoken_digits(
    dataset: Dataset,
    training: Training | None = None,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> SequenceClassifier:
    """``spoken_digits``, trained; the same seed gives the same weights.

    Arguments
    ---------
    folder:
        Keeps a checkpoint of each epoch, from which a run that was killed goes on.

    Raises
    ------
    ArtefactError:
        the folder's checkpoint is damaged, or of another run.
    """
    how = training or Training()
    model = spoken_digits(seed)
    inputs, classes = as_tensors(model, dataset.train_x, dataset.train_y)
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.lr, weight_decay=how.weight_decay)
    loss = nn.CrossEntropyLoss(label_smoothing=how.smoothing)
    steps = -(-len(inputs) // how.batch_size)
    path = None if folder is None else Path(folder) / f"spoken-digits-{seed}.safetensors"
    described = {"seed": seed, **asdict(how)}
    done = 0
    if path is not None and path.is_file():
        tensors, facts = load_checkpoint(path, described)
        done = facts["epochs"]
        _restore(model, optimiser, tensors)
    schedule = Cosine(optimiser, how.lr, how.epochs * steps, done=done * steps)
    gradients = Gradients(model.parameters(), lambda batch, right: loss(model(batch), right))
    for epoch in range(done, how.epochs):
        with seeded(seed, epoch):
            mean = train_epoch(
                model,
                _changed(inputs, how),
                classes,
                gradients,
                optimiser,
                schedule,
                batch_size=how.batch_size,
                first_step=epoch * steps,
            )
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            facts = {"epochs": epoch + 1}
            save_checkpoint(path, _state(model, optimiser), facts, described)
        if progress is not None:
            progress(epoch + 1, how.epochs, f"training, loss {mean:.4f}")
    return model.eval()


def _changed(inputs: torch.Tensor, how: Training) -> torch.Tensor:
    """Sequences, flat, moved in time, with silenced bands and noise."""
    frames = inputs.reshape(len(inputs), -1, speech.BANDS)
    count, length, bands = frames.shape
    most = how.shift * speech.FRAMES
    shift = torch.randint(-most, most + 1, (count, 1))
    places = torch.arange(length) + shift
    inside = (places >= 0) & (places < length)
    places = places.clamp(0, length - 1)[..., None].expand(-1, -1, bands)
    moved = frames.gather(1, places) * inside[..., None]
    first, width = torch.randint(bands, (count, 1)), torch.randint(how.mask, (count, 1))
    band = torch.arange(bands)
    masked = (band >= first) & (band < first + width)
    moved = moved.masked_fill(masked[:, None], 0.0)
    moved = moved * (1 + 0.1 * torch.randn(count, 1, 1)) + how.noise * torch.randn_like(moved)
    return moved.reshape(inputs.shape)


def _state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    found = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, own in optimiser.state_dict()["state"].items():
        found |= {f"optimiser.{number}.{name}": value for name, value in own.items()}
    return found


def _restore(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    weights = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            weights[rest] = value
        else:
            number, _, what = rest.partition(".")
            state.setdefault(int(number), {})[what] = value
    model.load_state_dict(weights)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
