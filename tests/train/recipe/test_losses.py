"""Losses against hand-computed ones, and against torch's where it has them."""

import math

import pytest
import torch
from torch.nn import functional as F

from cutaway.errors import SettingsError
from cutaway.train import TrainSettings
from cutaway.train.recipe.losses import Criterion, make_criterion

LOGITS = torch.tensor([[math.log(8.0), math.log(1.0), math.log(1.0)], [0.0, math.log(2.0), math.log(1.0)]])
# Probabilities 0.8, 0.1, 0.1 and 0.25, 0.5, 0.25.
LABELS = torch.tensor([0, 2])
ONE_HOT = F.one_hot(LABELS, 3).float()
WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
KINDS = ["cross-entropy", "focal", "mse", "brier"]


def test_cross_entropy_by_hand():
    assert Criterion()(LOGITS, LABELS).item() == pytest.approx((-math.log(0.8) - math.log(0.25)) / 2)


def test_label_smoothing_by_hand():
    smooth = [-(0.9 * math.log(p[y]) + 0.1 / 3 * sum(map(math.log, p))) for p, y in (((0.8, 0.1, 0.1), 0),)]
    found = Criterion(label_smoothing=0.1)(LOGITS[:1], LABELS[:1])
    assert found.item() == pytest.approx(smooth[0])


def test_class_weights_by_hand():
    found = Criterion(weights=WEIGHTS)(LOGITS, LABELS)
    assert found.item() == pytest.approx((-1 * math.log(0.8) - 3 * math.log(0.25)) / 2)


def test_focal_by_hand():
    by_hand = [-(0.2**2) * math.log(0.8), -(0.75**2) * math.log(0.25)]
    assert Criterion("focal", gamma=2)(LOGITS, LABELS).item() == pytest.approx(sum(by_hand) / 2)
    weighted = Criterion("focal", gamma=2, weights=WEIGHTS)(LOGITS, LABELS)
    assert weighted.item() == pytest.approx((by_hand[0] + 3 * by_hand[1]) / 2)


def test_focal_with_mixed_labels_by_hand():
    """Each class that a sample is of counts by its share, as in cross-entropy."""
    mixed = torch.tensor([[0.7, 0.3, 0.0]])
    by_hand = -0.7 * 0.2**2 * math.log(0.8) - 0.3 * 0.9**2 * math.log(0.1)
    assert Criterion("focal", gamma=2)(LOGITS[:1], mixed).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("labels", [LABELS, torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])])
def test_focal_without_focus_is_cross_entropy(smoothing, weights, labels):
    rest = {"label_smoothing": smoothing, "weights": weights}
    torch.testing.assert_close(Criterion("focal", gamma=0, **rest)(LOGITS, labels), Criterion(**rest)(LOGITS, labels))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_has_a_slope_where_everything_is_right(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    Criterion("focal", gamma=gamma)(logits, torch.tensor([0, 1])).backward()
    assert logits.grad.isfinite().all()


def test_squared_errors_by_hand():
    scores = torch.tensor([[0.5, -0.5, 2.0]])
    assert Criterion("mse")(scores, torch.tensor([2])).item() == pytest.approx((0.25 + 0.25 + 1.0) / 3)
    torch.testing.assert_close(Criterion("mse")(LOGITS, LABELS), F.mse_loss(LOGITS, ONE_HOT))
    brier = Criterion("brier")(LOGITS[:1], LABELS[:1])
    assert brier.item() == pytest.approx(0.2**2 + 0.1**2 + 0.1**2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_hot_rows_are_hard_labels(kind, smoothing, weights):
    criterion = Criterion(kind, label_smoothing=smoothing, weights=weights)
    torch.testing.assert_close(criterion(LOGITS, ONE_HOT), criterion(LOGITS, LABELS))


def test_over_the_whole_training_split_weighted_cross_entropy_is_torch_s():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    settings = TrainSettings(class_weights=(1.0, 2.0, 3.0), label_smoothing=0.3)
    ours = make_criterion(settings, (6, 3, 1), torch.device("cpu"))(logits, labels)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, WEIGHTS, label_smoothing=0.3))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_scores_are_taken_in_full(kind):
    found = Criterion(kind)(LOGITS.bfloat16(), LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Criterion(kind)(LOGITS.bfloat16().float(), LABELS))


def test_balanced_weights_make_classes_count_alike():
    criterion = make_criterion(TrainSettings(balance="loss"), (30, 10), torch.device("cpu"))
    assert criterion.weights.tolist() == pytest.approx([40 / 60, 40 / 20])


def test_weights_are_one_on_average():
    criterion = make_criterion(TrainSettings(class_weights=(1, 4)), (30, 10), torch.device("cpu"))
    assert criterion.weights.tolist() == pytest.approx([40 / 70, 160 / 70])
    with pytest.raises(SettingsError, match="no training picture counts"):
        make_criterion(TrainSettings(class_weights=(0, 4)), (30, 0), torch.device("cpu"))
    with pytest.raises(SettingsError, match="both weight the loss"):
        make_criterion(TrainSettings(class_weights=(1, 4), balance="loss"), (30, 10), torch.device("cpu"))


def test_weights_for_other_classes_are_refused():
    with pytest.raises(SettingsError, match="2 class weights for 3 classes"):
        make_criterion(TrainSettings(class_weights=(1.0, 2.0)), (1, 1, 1), torch.device("cpu"))


def test_the_settings_choose():
    settings = TrainSettings(loss="focal", focal_gamma=1.5, label_smoothing=0.1, class_weights=(1.0, 4.0))
    criterion = make_criterion(settings, (1, 1), torch.device("cpu"))
    assert (criterion.kind, criterion.gamma, criterion.label_smoothing) == ("focal", 1.5, 0.1)
    assert criterion.weights.tolist() == pytest.approx([0.4, 1.6])
    assert make_criterion(TrainSettings(), (1, 1), torch.device("cpu")).weights is None


@pytest.mark.parametrize("kind", ["focal", "mse", "brier"])
def test_autocast_leaves_the_weights_of_mixed_labels_exact(kind):
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    criterion = Criterion(kind, weights=torch.tensor([1.001, 0.3337, 1.7]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hard, soft = criterion(logits, labels), criterion(logits, torch.eye(3)[labels])
    assert soft.item() == pytest.approx(hard.item(), rel=1e-5)


def test_weights_are_one_on_average_where_classes_are_drawn_equally():
    settings = TrainSettings(class_weights=(1, 3, 5), balance="sample")
    made = make_criterion(settings, (90, 10, 0), torch.device("cpu"))
    assert made.weights.tolist() == [0.5, 1.5, 2.5]
