"""What counts as the same answer, with numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from cutaway.errors import ExportError
from cutaway.serve.export.comparison import ROUNDING, allowed, compare, compare_heatmaps
from cutaway.serve.export.figures import Answers, Thresholds
from cutaway.serve.export.verdict import complaint, limits_of


def maps(*rows) -> np.ndarray:
    return np.array(rows, np.float32).reshape(len(rows), 2, -1)


def test_maps_worked_out_by_hand():
    theirs = maps([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4])
    ours = maps([1, 2, 3, 4], [1, 2, 3, 2], [4, 3, 2, 1])
    correlations, differences = compare_heatmaps(ours, theirs)
    np.testing.assert_allclose(correlations, [1, 2 / np.sqrt(5 * 2), -1], atol=1e-12)
    np.testing.assert_allclose(differences, [0, 2 / 4, 3 / 4], atol=1e-12)


def test_a_map_of_another_scale_is_noticed_though_it_correlates():
    correlations, differences = compare_heatmaps(maps([2, 4, 6, 8]), maps([1, 2, 3, 4]))
    assert (correlations[0], differences[0]) == (1, 1)


def test_maps_that_are_nearly_zero_beside_the_others_are_the_same():
    correlations, differences = compare_heatmaps(
        maps([1, 0, 0, 0], [1e-9, 0, 0, 0], [0, 0, 0, 0]), maps([1, 0, 0, 0], [0, 0, 2e-9, 0], [0, 0, 0, 0])
    )
    assert np.isnan(correlations[1:]).all()
    assert differences.max() < 0.01


def test_a_map_where_pytorch_has_none_is_noticed():
    _, differences = compare_heatmaps(maps([1, 0, 0, 0], [1, 0, 0, 0]), maps([1, 0, 0, 0], [0, 0, 0, 0]))
    assert differences[1] > 1000


def answers(logits, heatmaps=None, features=None):
    logits = np.array(logits, np.float64)
    powers = np.exp(logits)
    return Answers(logits, powers / powers.sum(1, keepdims=True), heatmaps, features or {})


def figures_of(ours, theirs, exactly=None, thresholds=None):
    """Of pictures with equal probabilities, and these maps."""
    sides = [None if each is None else answers([[0.0, 0.0]] * len(each), each) for each in (ours, theirs, exactly)]
    return compare(*sides[:2], thresholds or Thresholds(), sides[2], pictures=1, batch_sizes=(1,), picture_sizes=())


def test_maps_that_float32_leaves_open_are_held_to_its_error():
    theirs = maps([1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0])
    ours = maps([1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0.3, 0, 0])
    assert "disagree with PyTorch's in 25%" in complaint(figures_of(ours, theirs), Thresholds()).message
    # PyTorch's own map is 0.1 off: 0.3 is within 5 times that.
    exactly = maps([1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0.1, 0, 0])
    figures = figures_of(ours, theirs, exactly)
    assert complaint(figures, Thresholds()) is None
    assert figures.heatmap_rounding == pytest.approx(0.1)
    assert (figures.heatmap_determined, figures.heatmap_share) == (0.75, 1)
    # Another picture's error excuses nothing, and neither does a smaller one.
    for elsewhere in (exactly[::-1], maps([1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0.05, 0, 0])):
        assert figures_of(ours, theirs, elsewhere).heatmap_share == 0.75


def test_a_network_whose_maps_are_mostly_rounding_is_refused_as_such():
    theirs = maps([1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0])
    ours = maps([1, 0, 0, 0], [1, 0.3, 0, 0], [1, 0.3, 0, 0])
    said = complaint(figures_of(ours, theirs, maps([1, 0, 0, 0], [1, 0.1, 0, 0], [1, 0.1, 0, 0])), Thresholds())
    assert "heat-maps are rounding in 67% of 3 comparisons" in said.message
    assert "--target-layer" in said.hint


def test_a_map_that_keeps_its_difference_and_not_its_correlation_is_not_excused_by_a_small_error():
    theirs, ours = maps([1.00, 1.00, 1.00, 0.98]), maps([0.98, 1.00, 1.00, 1.00])
    exactly = maps([1.00, 1.00, 1.00, 0.979])
    assert figures_of(ours, theirs, exactly).heatmap_share == 0


def test_a_picture_is_held_to_the_limit_or_to_pytorchs_own_error_at_it():
    assert allowed(1e-4, None, 0.002) == 1e-4
    # Nine are exact, and the tenth alone is excused.
    errors = np.array([1e-6] * 9 + [1e-3])
    np.testing.assert_allclose(allowed(1e-4, errors, 0.002), [1e-4] * 9 + [ROUNDING * 1e-3])
    # Where all have such errors, one that happens to be small is held to the usual one.
    errors = np.array([1e-3] * 9 + [1e-6])
    np.testing.assert_allclose(allowed(1e-4, errors, 0.002), [ROUNDING * 1e-3] * 10)
    # Beyond what anyone would call rounding, and where it is no number, it excuses nothing.
    errors = np.array([1e-6] * 8 + [0.5, np.nan])
    np.testing.assert_allclose(allowed(1e-4, errors, 0.002), [1e-4] * 10)


KNOWN = {"pictures": 1, "batch_sizes": (1,), "picture_sizes": ()}


def test_a_top_class_within_pytorchs_own_error_is_a_tie():
    theirs, ours, exactly = (answers(each) for each in ([[0.002, 0.0]], [[-0.002, 0.0]], [[-0.0016, 0.0]]))
    assert compare(ours, theirs, Thresholds(), **KNOWN).top1_agreement == 0
    assert compare(ours, theirs, Thresholds(), exactly, **KNOWN).top1_agreement == 1


def test_logits_are_held_to_what_pictures_change_of_them():
    """Where probabilities are 0 and 1 whatever the file does."""
    theirs = answers([[100.0, 0, 0], [104.0, 0, 2], [96.0, 0, 1]])
    ours = answers([[100.0, 0, 0], [104.0, 0.04, 2], [96.0, 0, 1]])
    figures = compare(ours, theirs, Thresholds(), **KNOWN)
    assert figures.probability_difference < 1e-40
    assert figures.logit_difference == pytest.approx(0.04 / 8)
    assert figures.logit_share == pytest.approx(2 / 3)
    assert "logits differ by up to 0.005 of what pictures change" in complaint(figures, Thresholds()).message


def test_logits_that_are_all_but_constant_are_held_to_float32s_grain():
    theirs = answers([[100.0, 0], [100.0, 1e-9]])
    ours = answers([[100.0 + 5e-5, 0], [100.0, 1e-9]])
    assert compare(ours, theirs, Thresholds(), **KNOWN).logit_difference == pytest.approx(5e-5 / 0.1, rel=1e-3)


def test_a_logit_within_pytorchs_own_error_passes_and_one_beyond_does_not():
    theirs = answers([[0.0, 0], [1.0, 0]])
    exactly = answers([[0.0, 0], [1.0, 0.002]])
    ours = [answers([[0.0, 0], [1.0, by]]) for by in (0.009, 0.011)]
    assert [compare(each, theirs, Thresholds(), exactly, **KNOWN).logit_share for each in ours] == [1, 0.5]
    assert compare(ours[0], theirs, Thresholds(), **KNOWN).logit_share == 0.5


def test_one_other_map_is_refused_though_most_are_pytorchs():
    theirs = maps(*[[1, 2, 3, 4]] * 9, [4, 0, 0, 1])
    figures = figures_of(maps(*[[1, 2, 3, 4]] * 10), theirs)
    assert (figures.heatmap_share, figures.heatmap_others) == (0.9, 1)
    assert "other maps than PyTorch's in 1 of 10" in complaint(figures, Thresholds()).message
    # As the kink of a network would have it, it passes.
    assert complaint(figures_of(maps(*[[1, 2, 3, 4]] * 9, [4, 0, 0.3, 1]), theirs), Thresholds()) is None
    # A map where there is none, or none where there is one.
    for ours, theirs in ((maps(*[[1, 2, 3, 4]] * 10), maps(*[[1, 2, 3, 4]] * 9, [0, 0, 0, 0])),) * 2:
        assert figures_of(ours, theirs).heatmap_others == 1
        assert figures_of(theirs, ours).heatmap_others == 1


def test_a_heat_map_on_one_side_only_is_refused():
    with pytest.raises(ExportError, match="gives no heat-map"):
        compare(answers([[0, 0]]), answers([[0, 0]], maps([1, 0, 0, 0])), Thresholds(), **KNOWN)


def test_feature_maps_worked_out_by_hand():
    theirs = np.array([[[[1.0, -2.0]]], [[[4.0, 0.0]]]])
    ours = theirs + np.array([[[[0.0, 0.001]]], [[[0.0, 0.008]]]])
    sides = [answers([[0, 0]] * 2, features={"features.conv": each}) for each in (ours, theirs)]
    figures = compare(*sides, Thresholds(), **KNOWN)
    assert figures.feature_difference == pytest.approx(0.002)
    assert figures.feature_share == 0.5
    assert "feature maps differ by up to 0.002" in complaint(figures, Thresholds()).message
    with pytest.raises(ExportError, match=r"gives the features of no layer, PyTorch those features\.conv"):
        compare(answers([[0, 0]] * 2), sides[1], Thresholds(), **KNOWN)
    with pytest.raises(ExportError, match=r"exported features\.conv are of shape"):
        compare(answers([[0, 0]] * 2, features={"features.conv": ours[:, :, :, :1]}), sides[1], Thresholds(), **KNOWN)


@pytest.mark.parametrize("where", ["logits", "probabilities", "heatmaps"])
def test_what_is_no_number_is_refused(where):
    theirs = answers([[0.0, 1], [1.0, 0]], maps([1, 0, 0, 0], [1, 0, 0, 0]))
    broken = getattr(theirs, where).copy()
    broken[0].flat[0] = np.nan
    figures = compare(replace(theirs, **{where: broken}), theirs, Thresholds(), **KNOWN)
    assert complaint(figures, Thresholds()) is not None


def test_limits_are_named_for_what_a_file_has():
    own = Thresholds(probability=0.1, heatmap_correlation=0.5, feature=0.2)
    limits = limits_of(own, explains=True, features=True)
    assert (limits["probability_difference"], limits["heatmap_correlation"]) == (0.1, 0.5)
    assert limits["feature_difference"] == 0.2
    plain = limits_of(own, explains=False, features=False)
    assert not any(name.startswith(("heatmap", "feature")) for name in plain)


def test_any_figure_beyond_its_limit_is_complained_of():
    theirs = answers([[0.0, 1], [1.0, 0]], maps([1, 2, 3, 4], [1, 2, 3, 4]))
    good = compare(theirs, theirs, Thresholds(), **KNOWN)
    assert complaint(good, Thresholds()) is None
    for wrong in (
        answers([[0.01, 1], [1.0, 0]], theirs.heatmaps),
        answers([[0.0, 1], [0.0, 1]], theirs.heatmaps),
        answers(theirs.logits, maps([1, 2, 3, 4], [4, 3, 2, 1])),
    ):
        figures = compare(wrong, theirs, Thresholds(), **KNOWN)
        assert complaint(figures, Thresholds()) is not None
    assert "on the top class in 10%" in complaint(replace(good, top1_agreement=0.9), Thresholds()).message
    encoded = replace(
        good,
        encoded_pictures=2,
        encoded_probability_difference=0.2,
        encoded_share=0.5,
        encoded_top1_agreement=1.0,
    )
    assert "From the encoded file" in complaint(encoded, Thresholds()).message
    encoded = replace(encoded, encoded_share=1.0, encoded_probability_difference=0.0)
    assert complaint(encoded, Thresholds()) is None
    assert "on the top class" in complaint(replace(encoded, encoded_top1_agreement=0.5), Thresholds()).message


@pytest.mark.parametrize(
    ("strongest", "said", "wrong"),
    [
        # Of a map of four values, and logits of at most 1, the border lies at 1e-6 / 4.
        (0.0, True, 0),
        (0.0, False, 1),
        (1.0, False, 0),
        (1.0, True, 1),
        (3e-7, True, 0),  # so near to the border that rounding may decide
        (2e-7, False, 0),
        (6e-7, True, 1),
        (1e-7, False, 1),
    ],
)
def test_a_flag_has_to_follow_from_the_map(strongest, said, wrong):
    theirs = answers([[0.0, 0.0]], maps([strongest, 0, 0, 0]))
    ours = replace(theirs, faint=np.array([said]))
    figures = compare(ours, theirs, Thresholds(), pictures=1, batch_sizes=(1,), picture_sizes=())
    assert figures.heatmap_wrong_flags == wrong
    complained = complaint(figures, Thresholds())
    assert (complained is not None) == bool(wrong)
    assert complained is None or "whether a heat-map is faint, in 1 of 1" in complained.message


def test_a_file_without_flags_is_not_asked_for_them():
    figures = figures_of(maps([1, 0, 0, 0]), maps([1, 0, 0, 0]))
    assert figures.heatmap_wrong_flags is None


@pytest.mark.parametrize(("logits", "they_do"), [([[0.9, 0.1], [0.4, 0.6]], True), ([[0.9, 0.1], [-0.1, 1.1]], False)])
def test_scores_that_look_like_probabilities_are_noticed(logits, they_do):
    same = answers(logits)
    figures = compare(same, same, Thresholds(), pictures=1, batch_sizes=(1,), picture_sizes=())
    assert figures.scores_in_unit_range is they_do
