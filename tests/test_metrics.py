"""Metrics against scikit-learn, torchmetrics' own figures, and answers worked out by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from cutaway.evaluation import Evaluation
from cutaway.metrics import LARGEST_CONFUSION, SCALARS, measure


def answers(samples, classes, *, labels=None, seed=0, lift=1.5):
    """Logits that lean towards the truth."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=generator) if labels is None else torch.tensor(labels)
    logits = torch.randn(len(labels), classes, generator=generator)
    logits[torch.arange(len(labels)), labels] += lift
    return Evaluation(logits, labels)


@pytest.mark.parametrize(("samples", "classes"), [(500, 2), (700, 5), (900, 6), (1000, 30), (40, 20)])
def test_scikit_learn_says_the_same(samples, classes):
    given = answers(samples, classes)
    found, truth, taken = measure(given), given.labels.numpy(), given.predictions.numpy()
    probabilities = given.logits.double().softmax(1).numpy()
    assert found.accuracy == oracle.accuracy_score(truth, taken)
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(
            truth, taken, average=average, zero_division=0
        )
        assert getattr(found, f"{average}_precision") == pytest.approx(precision, rel=1e-12)
        assert getattr(found, f"{average}_f1") == pytest.approx(f1, rel=1e-12)
        assert recall == pytest.approx(found.macro_recall if average == "macro" else found.accuracy, rel=1e-12)
    every = range(classes)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        truth, taken, labels=every, zero_division=np.nan
    )
    np.testing.assert_allclose(found.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(found.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(found.f1, f1, rtol=1e-12)
    assert found.support.tolist() == support.tolist()
    assert np.array_equal(found.confusion, oracle.confusion_matrix(truth, taken, labels=every))
    present = np.flatnonzero(found.support)
    areas = [oracle.roc_auc_score(truth == index, probabilities[:, index]) for index in present]
    np.testing.assert_allclose(found.class_auroc[present], areas, rtol=1e-6)
    assert found.auroc == pytest.approx(np.mean(areas), rel=1e-6)
    if classes > 5:
        top = oracle.top_k_accuracy_score(truth, probabilities, k=5, labels=every)
        assert found.top5_accuracy == top
    else:
        assert found.top5_accuracy is None
        assert "valid_top5_accuracy" not in found.scalars()


def test_torchmetrics_averages_are_the_same():
    from torchmetrics.functional import classification

    given = answers(300, 7, seed=3)
    found = measure(given)
    for average in ("macro", "weighted"):
        for name in ("precision", "f1_score"):
            theirs = getattr(classification, f"multiclass_{name}")(given.predictions, given.labels, 7, average)
            ours = getattr(found, f"{average}_{name.removesuffix('_score')}")
            assert ours == pytest.approx(theirs.item(), rel=1e-6)


def test_calibration_by_hand():
    # Four answers at 0.9, three of them right; two at 0.6, both right: 4/6 x 0.15 + 2/6 x 0.4.
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    logits = torch.stack([confidence.log(), (1 - confidence).log()], 1)
    found = measure(Evaluation(logits, torch.tensor([0, 0, 0, 1, 0, 0])))
    assert found.ece == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.4, abs=1e-6)


def test_calibration_in_fifteen_bins():
    given = answers(2000, 4, lift=2.5)
    confidence, right = given.probabilities.max(1).values.numpy(), (given.predictions == given.labels).numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    assert measure(given).ece == pytest.approx(sum(gaps), abs=1e-5)


def test_full_certainty_belongs_to_the_last_of_the_bins():
    # 1 and 0.97 in one bin: their mean is 0.985, and half of them are right.
    logits = torch.tensor([[200.0, 0.0], [3.4761, 0.0]])
    assert measure(Evaluation(logits, torch.tensor([1, 0]))).ece == pytest.approx(0.485, abs=1e-5)


def test_logits_that_look_like_probabilities_are_still_logits():
    """torchmetrics takes whatever lies in [0, 1] for probabilities."""
    labels = torch.tensor([0, 1, 2, 0])
    logits = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.4, 0.5, 0.1]])
    assert measure(Evaluation(logits, labels)).ece == pytest.approx(
        measure(Evaluation(logits + 5, labels)).ece, abs=1e-6
    )


def test_confident_answers_do_not_tie():
    """Both probabilities are 1 in float32; the true one is the larger all the same."""
    found = measure(Evaluation(torch.tensor([[25.0, 0.0], [20.0, 0.0]]), torch.tensor([0, 1])))
    assert found.auroc == 1.0


def test_classes_without_samples_count_as_scikit_learn_counts_them():
    # Class 1 is predicted and never the truth, class 2 is the truth and never predicted, class 3 is neither.
    logits = torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [3.0, 0, 1, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
        found = measure(Evaluation(logits, torch.tensor([0, 0, 2])))
    assert found.support.tolist() == [2, 0, 1, 0]
    np.testing.assert_array_equal(found.precision, [0.5, 0, np.nan, np.nan])
    np.testing.assert_array_equal(found.recall, [0.5, np.nan, 0, np.nan])
    np.testing.assert_array_equal(found.f1, [0.5, 0, 0, np.nan])
    assert found.macro_f1 == pytest.approx(oracle.f1_score([0, 0, 2], [0, 1, 0], average="macro", zero_division=0))
    # Class 0 against the rest: of two pairs one is in order. Class 2: both are.
    np.testing.assert_array_equal(np.isnan(found.class_auroc), [False, True, False, True])
    assert found.auroc == pytest.approx(np.nanmean(found.class_auroc))
    assert found.worst_classes(5) == [2, 0]


def test_where_all_samples_are_of_one_class_there_is_no_area():
    found = measure(answers(6, 3, labels=[1] * 6))
    assert math.isnan(found.auroc)
    assert 0 <= found.accuracy <= 1


def test_an_answer_that_is_no_number_makes_every_scalar_nan():
    given = answers(20, 8)
    given.logits[7] = torch.nan
    found = measure(given)
    assert list(found.scalars()) == list(SCALARS)
    assert all(math.isnan(value) for value in found.scalars().values())
    assert found.confusion.sum() == 20
    given = answers(20, 8)
    given.logits[3, 2] = -torch.inf
    assert math.isfinite(measure(given).accuracy)


def test_many_classes_under_deterministic_algorithms_fit_in_memory():
    """torchmetrics' own counting would compare 3,000 samples with 4 million cells each."""
    given = answers(3000, LARGEST_CONFUSION * 2, lift=6)
    torch.use_deterministic_algorithms(True)
    try:
        found = measure(given)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.confusion is None
    assert found.accuracy == given.accuracy
    assert measure(answers(50, LARGEST_CONFUSION)).confusion.shape == (1000, 1000)


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        measure(answers(30, 3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_scalars_bear_the_split_s_name_and_can_be_monitored():
    found = measure(answers(50, 8))
    assert list(found.scalars("test")) == [name.replace("valid_", "test_") for name in SCALARS]
    assert all(hasattr(found, name.removeprefix("valid_")) for name in SCALARS)
    assert {name for name, mode in SCALARS.items() if mode == "min"} == {"valid_loss", "valid_ece"}
