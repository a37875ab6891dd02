"""Images are moved and mirrored as said, each in its own way."""

from __future__ import annotations

import torch

from drawbar.sw.compress.augment import Augmentation

IMAGE = (3, 6, 5)


def images(count: int) -> torch.Tensor:
    """Numbers of 1 and up, so that what comes in (0) is told from them."""
    torch.manual_seed(1)
    return 1 + torch.rand(count, 90)


def test_every_image_is_one_of_the_moved_ones() -> None:
    batch, shift = images(400), 2
    found = Augmentation(IMAGE, shift, 0.25)(batch)
    assert found.shape == batch.shape
    whole = torch.nn.functional.pad(batch.reshape(-1, *IMAGE), (shift,) * 4)
    mirrored = whole.flip(3)
    seen = []
    for image, a, b in zip(found.reshape(-1, *IMAGE), whole, mirrored, strict=True):
        ways = [
            (flip, down, right)
            for flip, source in enumerate((a, b))
            for down in range(5)
            for right in range(5)
            if torch.equal(image, source[:, down : down + 6, right : right + 5])
        ]
        assert len(ways) == 1
        seen += ways
    assert 60 < sum(flip for flip, _, _ in seen) < 140
    assert len({way[1:] for way in seen}) == 25


def test_nothing_asked_changes_nothing() -> None:
    batch = images(5)
    assert torch.equal(Augmentation(IMAGE)(batch), batch)
    assert torch.equal(Augmentation(IMAGE, 0, 1.0)(Augmentation(IMAGE, 0, 1.0)(batch)), batch)


def test_the_global_generator_draws() -> None:
    batch, moved = images(20), Augmentation(IMAGE, 3, 0.5)
    first = moved(batch)
    assert not torch.equal(first, moved(batch))
    torch.manual_seed(1)
    torch.rand(20, 90)
    assert torch.equal(moved(batch), first)
