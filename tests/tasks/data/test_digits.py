from __future__ import annotations

import pytest
import torch

from frostline.errors import OptionError
from frostline.tasks.data.digits import load_digits
from frostline.tasks.data.images import shift_images


def test_the_digits_are_split_once_and_for_all() -> None:
    first, second = load_digits(size=8), load_digits(size=8)
    assert (len(first.training), len(first.validation)) == (1198, 599)
    assert first.sha256 == second.sha256 != load_digits(size=16).sha256
    images, _ = first.training.tensors
    assert images.shape == (1198, 1, 8, 8)
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(0, abs=0.05)
    assert images.std().item() == pytest.approx(1, abs=0.05)
    for part in (first.training, first.validation):
        assert part.tensors[1].bincount(minlength=10).min() > 0.08 * len(part)
    both = torch.cat([images, first.validation.tensors[0]]).flatten(1)
    assert len(both.unique(dim=0)) == 1797


def test_digits_are_enlarged() -> None:
    assert load_digits(size=16).training[0][0].shape == (1, 16, 16)


def test_shifts_are_by_at_most_a_pixel_and_each_image_has_its_own() -> None:
    images = torch.randn(200, 2, 6, 7)
    shifted = shift_images(images, torch.Generator().manual_seed(0))
    assert shifted.shape == images.shape
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    candidates = torch.stack([padded[:, :, y : y + 6, x : x + 7] for y in range(3) for x in range(3)])
    matches = (candidates == shifted).flatten(2).all(dim=2)
    assert matches.sum(dim=0).eq(1).all()
    assert matches.sum(dim=1).min() > 5  # all nine moves happen


def test_shifts_depend_on_their_generator_alone() -> None:
    images = torch.randn(50, 1, 8, 8)
    state = torch.get_rng_state()
    first, second, third = (shift_images(images, torch.Generator().manual_seed(seed), by=2) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(state, torch.get_rng_state())


def test_a_bad_size_is_refused() -> None:
    with pytest.raises(OptionError, match="image_size is 0, but must be a whole number of at least 1"):
        load_digits(size=0)
