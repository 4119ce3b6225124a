"""Mixup and CutMix by hand, and CutMix against torchvision's rectangle."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import CutMix

from cutaway.train.augmentation.mixing import Mixing, blend, cut


def test_a_blend_by_hand():
    values = torch.tensor([[10.0, 0.0], [20.0, 4.0], [40.0, 8.0]])
    # A quarter of the row before it; before the first is the last.
    assert blend(values, 0.75).tolist() == [[17.5, 2.0], [17.5, 3.0], [35.0, 7.0]]


def test_mixup_mixes_pictures_and_labels_by_the_same_share():
    inputs = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    mixed, targets = Mixing(3, seed=1, mixup=1.0)(inputs, torch.tensor([0, 2]), 5)
    share = float(targets[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(targets, torch.tensor([[share, 0, 1 - share], [1 - share, 0, share]]))
    torch.testing.assert_close(mixed.flatten(), torch.tensor([share + 3 * (1 - share), 3 * share + 1 - share]))


def test_the_mixed_loss_is_the_mixture_of_both_losses():
    """What the papers write, for the cross-entropy that the step computes."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])
    labels = torch.tensor([0, 2])
    _, targets = Mixing(3, mixup=0.4)(torch.zeros(2, 1, 1, 1), labels, 0)
    share = float(targets[0, 0])
    both = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels.roll(1))
    torch.testing.assert_close(F.cross_entropy(logits, targets), both)


def test_a_cut_by_hand():
    inputs = torch.stack([torch.full((1, 8, 8), 1.0), torch.full((1, 8, 8), 2.0)])
    # A quarter of the area: 4 x 4 around row 2 and column 7, of which a column and two rows lie outside.
    mixed, share = cut(inputs, 0.75, (0.25, 0.875))
    wanted = torch.ones(8, 8)
    wanted[0:4, 5:8] = 2.0
    assert torch.equal(mixed[0, 0], wanted)
    assert torch.equal(mixed[1, 0], 3 - wanted)
    assert share == 1 - 12 / 64
    assert (inputs[0] == 1).all()


def test_cutmix_counts_the_pixels_that_it_pasted():
    inputs = torch.stack([torch.zeros(1, 20, 20), torch.ones(1, 20, 20)])
    shares = []
    for step in range(50):
        mixed, targets = Mixing(2, cutmix=1.0)(inputs, torch.tensor([0, 1]), step)
        torch.testing.assert_close(targets[0], torch.stack([1 - mixed[0].mean(), mixed[0].mean()]))
        shares.append(float(targets[0, 0]))
    assert min(shares) < 0.4
    assert max(shares) > 0.9


@pytest.mark.parametrize("share", [0.1, 0.5, 0.93])
@pytest.mark.parametrize("place", [(0, 0), (5, 19), (13, 8)])
def test_the_rectangle_is_torchvisions(monkeypatch, share, place):
    inputs = torch.rand(4, 3, 14, 20, generator=torch.Generator().manual_seed(0))
    transform = CutMix(num_classes=4)
    drawn = iter([torch.tensor([place[1]]), torch.tensor([place[0]])])
    monkeypatch.setattr(transform._dist, "sample", lambda *_: torch.tensor(share))
    monkeypatch.setattr(torch, "randint", lambda *_, **__: next(drawn))
    theirs, targets = transform(inputs, torch.arange(4))
    center = (place[0] + 0.5) / 14, (place[1] + 0.5) / 20
    ours, stayed = cut(inputs, share, center)
    assert torch.equal(ours, theirs)
    assert stayed == pytest.approx(float(targets[0, 0]))


def test_the_share_is_drawn_from_beta():
    shares = np.array([float(Mixing(2, mixup=0.5)(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), step)[1][0, 0])
                       for step in range(2000)])  # fmt: skip
    # Beta(a, a): mean 1/2, variance 1 / (4 * (2 a + 1)) = 1/8.
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(0.125, abs=0.01)


def test_it_is_a_function_of_seed_and_step_and_leaves_the_generators_alone():
    inputs, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    mixing = Mixing(3, seed=1, mixup=1.0, cutmix=1.0)
    first = mixing(inputs, labels, 7)
    mixing(inputs, labels, 8)
    again = Mixing(3, seed=1, mixup=1.0, cutmix=1.0)(inputs, labels, 7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], Mixing(3, seed=2, mixup=1.0, cutmix=1.0)(inputs, labels, 7)[1])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def test_with_both_on_each_step_draws_one():
    inputs = torch.stack([torch.zeros(1, 20, 20), torch.ones(1, 20, 20)])
    pasted = 0
    for step in range(200):
        mixed, _ = Mixing(2, mixup=1.0, cutmix=1.0)(inputs, torch.tensor([0, 1]), step)
        pasted += bool(((mixed == 0) | (mixed == 1)).all())
    assert 70 < pasted < 130


def test_off_nothing_is_touched():
    inputs, labels = torch.rand(2, 1, 3, 3), torch.tensor([0, 1])
    mixed, targets = Mixing(2)(inputs, labels, 0)
    assert mixed is inputs
    assert targets is labels
