"""Augmentations: each value against a plain loop over images and pixels, each sample_params within its bounds."""

import math

import numpy as np
import pytest
import torch

from fbsearch.images.augment import AREA, AUGMENTATIONS, RATIO, augment, sample_params

HEIGHT, WIDTH = 16, 24


def batch(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_crop(image: np.ndarray, top: int, left: int, flip: bool) -> np.ndarray:
    pad_h, pad_w = HEIGHT // 8, WIDTH // 8
    padded = np.pad(image, ((0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    cut = padded[:, top : top + HEIGHT, left : left + WIDTH]
    return cut[:, :, ::-1] if flip else cut


def plain_resize(image: np.ndarray, box: list[float], flip: bool) -> np.ndarray:
    """Bilinear by its definition, one pixel at a time; beyond the outermost pixel centres the border's value."""
    top, left, height, width = box
    out = np.empty_like(image)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            y = min(max((top + height * (row + 0.5) / HEIGHT) * HEIGHT - 0.5, 0), HEIGHT - 1)
            x = min(max((left + width * (column + 0.5) / WIDTH) * WIDTH - 0.5, 0), WIDTH - 1)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, HEIGHT - 1), min(x0 + 1, WIDTH - 1)
            upper = image[:, y0, x0] * (1 - (x - x0)) + image[:, y0, x1] * (x - x0)
            lower = image[:, y1, x0] * (1 - (x - x0)) + image[:, y1, x1] * (x - x0)
            out[:, row, WIDTH - 1 - column if flip else column] = upper * (1 - (y - y0)) + lower * (y - y0)
    return out


def test_none_changes_nothing() -> None:
    x = batch()
    assert torch.equal(augment("none", x, sample_params("none", 5, HEIGHT, WIDTH, generator())), x)


@pytest.mark.parametrize("name", ["flip", "crop", "crop-flip"])
def test_crops_and_flips_move_whole_pixels(name: str) -> None:
    x, drawn = batch(40), sample_params(name, 40, HEIGHT, WIDTH, generator())
    found = augment(name, x, drawn)
    for i, image in enumerate(x.numpy()):
        flip = bool(drawn.flip[i])
        if name == "flip":
            expected = image[:, :, ::-1] if flip else image
        else:
            expected = plain_crop(image, *drawn.box[i].tolist(), flip)
        np.testing.assert_array_equal(found[i].numpy(), expected)
    assert drawn.flip.any() == (name != "crop")


def test_resized_crop_is_bilinear() -> None:
    x, drawn = batch(), sample_params("resized-crop", 5, HEIGHT, WIDTH, generator(1))
    assert 0 < drawn.flip.sum() < 5
    found = augment("resized-crop", x, drawn)
    for i, image in enumerate(x.double().numpy()):
        expected = plain_resize(image, drawn.box[i].tolist(), bool(drawn.flip[i]))
        np.testing.assert_allclose(found[i].numpy(), expected, atol=2e-5)


def test_crops_reach_every_place_and_no_other() -> None:
    box = sample_params("crop", 2000, HEIGHT, WIDTH, generator()).box
    assert set(box[:, 0].tolist()) == set(range(2 * (HEIGHT // 8) + 1))
    assert set(box[:, 1].tolist()) == set(range(2 * (WIDTH // 8) + 1))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 24), (8, 64)])
def test_resized_crops_keep_to_their_bounds(height: int, width: int) -> None:
    drawn = sample_params("resized-crop", 2000, height, width, generator())
    top, left, tall, wide = drawn.box.double().unbind(1)
    for place, extent in ((top, tall), (left, wide)):
        assert place.min() >= 0
        assert (place + extent).max() <= 1 + 1e-6
    area, ratio = tall * wide, wide * width / (tall * height)
    assert AREA[0] - 1e-6 <= area.min()
    assert area.max() <= AREA[1] + 1e-6
    assert RATIO[0] - 1e-5 <= ratio.min()
    assert ratio.max() <= RATIO[1] + 1e-5
    assert drawn.flip.float().mean().item() == pytest.approx(0.5, abs=0.05)
    if height == width:
        assert area.mean().item() == pytest.approx(0.5, abs=0.05)  # uniform in 0.08 … 1, the largest fit less often


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(name: str) -> None:
    x, drawn = batch(7), sample_params(name, 7, HEIGHT, WIDTH, generator())
    whole = augment(name, x, drawn)
    for rank in range(3):
        assert torch.equal(augment(name, x[rank::3], drawn.part(rank, 3)), whole[rank::3])
