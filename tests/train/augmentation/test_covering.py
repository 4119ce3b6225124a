"""Erased rectangles, and salt and pepper."""

import pytest
import torch

from cutaway.train.augmentation.covering import erase, salt_and_pepper

FILL = torch.tensor([7], dtype=torch.uint8)


def test_an_erased_rectangle_by_hand(decided):
    pictures = torch.full((2, 1, 10, 10), 200, dtype=torch.uint8)
    # The first happens; area 0.02 + 0.5 * (0.3 - 0.02) = 0.16 at ratio 1: 4 x 4, at row 3 of 0 to 6 and column 6.
    draws = decided([0.2, 0.3], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.99, 0.5])
    erased = erase(pictures, draws, (0.25, 0.3), FILL)
    assert (erased[0, 0, 3:7, 6:10] == 7).all()
    assert int((erased[0] == 200).sum()) == 84
    assert torch.equal(erased[1], pictures[1])


def test_erasing_fills_with_the_mean_which_becomes_zero(augmenter):
    pictures = torch.full((50, 3, 20, 20), 255, dtype=torch.uint8)
    erased = augmenter("erase:1", mean=0.4).batch(pictures, 0, torch.arange(50))
    assert erased.unique().tolist() == [102, 255]
    shares = (erased[:, 0] == 102).float().mean((1, 2))
    assert shares.min() > 0.01
    assert shares.max() < 0.4


def test_so_many_are_erased(augmenter):
    pictures = torch.full((10_000, 1, 8, 8), 255, dtype=torch.uint8)
    erased = augmenter("erase:0.25", color="grey", size=(8, 8)).batch(pictures, 0, torch.arange(10_000))
    assert abs(int((erased < 255).flatten(1).any(1).sum()) - 2500) < 220


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_salt_and_pepper_are_a_share_of_pixels_half_and_half(augmenter, share):
    pictures = torch.full((100, 3, 28, 28), 100, dtype=torch.uint8)
    peppered = augmenter(f"salt-and-pepper:{share}").batch(pictures, 0, torch.arange(100))
    assert (peppered == peppered[:, :1]).all()
    pixels = peppered[:, 0]
    for end in (0, 255):
        assert float((pixels == end).float().mean()) == pytest.approx(share / 2, abs=0.01)
    assert set(pixels.unique().tolist()) <= {0, 100, 255}


def test_salt_and_pepper_by_hand(decided, monkeypatch):
    draws = decided([0.0])
    numbers = torch.tensor([[[0.0, 0.04, 0.06, 0.5]]])
    monkeypatch.setattr(type(draws), "pixels", lambda *_: numbers)
    pictures = torch.full((1, 1, 1, 4), 100, dtype=torch.uint8)
    assert salt_and_pepper(pictures, draws, (0.1,)).flatten().tolist() == [255, 255, 0, 100]
