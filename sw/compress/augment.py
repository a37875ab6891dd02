"""Images moved and mirrored at random, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass

from drawbar.sw.compress.backend import nn, torch


@dataclass(frozen=True)
class Augmentation:
    """A random change of a batch of images, drawn from the global random generator.

    Arguments
    ---------
    image:
        Channels, height and width.
    shift:
        Pixels by which an image is moved at most, up or down and left or right; what comes in is
        black.
    mirror:
        The chance that an image is mirrored left to right.
    """

    image: tuple[int, int, int]
    shift: int = 0
    mirror: float = 0.0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """``(samples, pixels)``, and so is the result."""
        count, (channels, height, width), shift = len(batch), self.image, self.shift
        # Drawn on the CPU, so that a GPU sees the same images.
        down, right = torch.randint(2 * shift + 1, (2, count, 1)).to(batch.device)
        flipped = (torch.rand(count, 1) < self.mirror).to(batch.device)
        rows = torch.arange(height, device=batch.device) + down
        columns = torch.arange(width, device=batch.device).expand(count, -1)
        columns = torch.where(flipped, width - 1 - columns, columns) + right
        padded = nn.functional.pad(batch.reshape(count, channels, height, width), (shift,) * 4)
        number = torch.arange(count, device=batch.device)[:, None, None]
        moved = padded[number, :, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2).reshape(count, -1)
