"""The table of methods and metrics, and the maps that know nothing."""

import pytest
import torch

from cutaway.errors import InspectionError
from cutaway.inspect.faithfulness import METRICS, REFERENCE_MAPS, MethodComparison, compare_methods


@pytest.fixture
def looked_at(bright):
    """Pictures with something in the quarter that the network looks at."""
    bright[:, :, 6:] = bright[:, :, :, 6:] = 0
    return bright


def test_the_map_of_where_it_looks_is_the_best_and_better_than_chance(corner, looked_at, where_it_looks):
    def elsewhere(pictures, classes):
        return 1 - where_it_looks(pictures, classes)

    found = compare_methods(corner, looked_at, {"elsewhere": elsewhere, "there": where_it_looks}, 0)
    assert found.methods == ("elsewhere", "there", *REFERENCE_MAPS)
    assert found.references == tuple(REFERENCE_MAPS)
    assert found.values.shape == (6, 7, 12)
    for metric in ("deletion", "insertion", "road", "drop", "infidelity"):
        assert found.best(metric) == "there", metric
        assert found.beats_random("there", metric) is True, metric
        assert found.beats_random("elsewhere", metric) is False, metric
        assert found.beats_random("edges", metric) is None
    at = found.metrics.index("max-sensitivity")
    assert found.values[2:, at].isnan().all()
    assert found.beats_random("there", "max-sensitivity") is None
    assert [curve.kind for curve in found.curves["there"]] == ["deletion", "insertion"]


def test_means_and_standard_errors_are_those_over_pictures(corner, looked_at, where_it_looks):
    found = compare_methods(corner, looked_at, {"there": where_it_looks}, metrics=["deletion", "drop"])
    values = found.values.numpy()
    assert found.mean.numpy() == pytest.approx(values.mean(2))
    assert found.standard_error.numpy() == pytest.approx(values.std(2, ddof=1) / 12**0.5)
    assert found.num_pictures == 12


def test_of_methods_that_are_equally_good_none_is_the_best(corner, looked_at, where_it_looks):
    methods = {"one": where_it_looks, "other": where_it_looks}
    found = compare_methods(corner, looked_at, methods, 0, metrics=["deletion", "increase"])
    assert found.best("deletion") is None
    assert found.best("increase") is None


def test_one_picture_has_no_standard_error_and_no_verdict(corner, looked_at, where_it_looks):
    found = compare_methods(corner, looked_at[:1], {"there": where_it_looks}, metrics=["deletion"])
    assert found.standard_error.isnan().all()
    assert found.beats_random("there", "deletion") is None
    assert found.best("deletion") == "there"


def ahead_by(errors, count, spread=0.01):
    """A method that is ahead of random pixels by so many standard errors, and of random patches by far."""
    differences = torch.linspace(-spread, spread, count, dtype=torch.float64)
    random = torch.full((count,), 0.5, dtype=torch.float64)
    own = random + differences + errors * differences.std() / count**0.5
    values = torch.stack([own, random, random - 10])[:, None]
    names = ("random pixels", "random patches")
    return MethodComparison(("own", *names), ("insertion",), values, names, {}, torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize(
    ("count", "errors", "wanted"),
    [
        # The quantile of Student's t that is as rare as two standard deviations of a normal: 2.87 of 5 pictures.
        *((5, 2.8, False), (5, 2.95, True)),
        *((16, 2.1, False), (16, 2.3, True)),
        *((10_000, 1.99, False), (10_000, 2.01, True)),
    ],
)
@pytest.mark.parametrize("spread", [1e-3, 1.0])
def test_better_than_chance_is_by_two_standard_errors_and_more_of_few_pictures(count, errors, wanted, spread):
    assert ahead_by(errors, count, spread).beats_random("own", "insertion") is wanted


def test_the_lead_is_of_paired_differences_and_over_the_random_map_that_comes_nearest():
    # Pictures differ by far more than the methods do on each of them.
    pictures = torch.arange(9, dtype=torch.float64)
    own = pictures + torch.tensor([0.1, 0.2, 0.3] * 3, dtype=torch.float64)
    values = torch.stack([own, pictures, pictures - 5])[:, None]
    names = ("random pixels", "random patches")
    found = MethodComparison(("own", *names), ("insertion",), values, names, {}, torch.zeros(9, dtype=torch.int64))
    lead = found.lead_over_random("own", "insertion")
    assert lead is not None
    assert lead.over == "random pixels"
    # t of 8 degrees of freedom at the normal's two deviations; the differences have the deviation sqrt(0.06 / 8).
    assert found.cut_off == pytest.approx(2.366, abs=1e-3)
    assert lead.mean == pytest.approx(0.2)
    assert (lead.mean - lead.low, lead.high - lead.mean) == pytest.approx((2.366 * 0.0075**0.5 / 3,) * 2, rel=1e-3)
    assert lead.is_told
    back = found.lead("random pixels", "own", "insertion")
    assert back is not None
    assert (back.low, back.high) == pytest.approx((-lead.high, -lead.low))
    assert found.lead_over_random("random pixels", "insertion") is None


def test_fewer_than_five_pictures_beat_nothing_by_chance():
    assert ahead_by(50, 4).beats_random("own", "insertion") is None


def test_the_same_seed_gives_the_same_table(corner, looked_at, where_it_looks):
    one, other = (compare_methods(corner, looked_at[:3], {"there": where_it_looks}, seed=4) for _ in range(2))
    assert torch.equal(one.values.nan_to_num(), other.values.nan_to_num())


def test_no_random_map_beats_chance(corner, looked_at):
    def noise(pictures, classes):
        return torch.rand(len(pictures), 12, 12, generator=torch.Generator().manual_seed(99))

    found = compare_methods(corner, looked_at, {"noise": noise}, 0, metrics=["deletion", "insertion", "road"])
    assert not any(found.beats_random("noise", metric) for metric in found.metrics)


def test_reference_maps_are_what_they_say():
    step = torch.zeros(2, 3, 21, 28)
    step[:, :, :, 14:] = 1
    assert REFERENCE_MAPS["edges"](step, 0)[0].mean(0).argmax() in (13, 14)
    assert REFERENCE_MAPS["edges"](step, 0)[0, 10, 2] < 1e-6
    middle = REFERENCE_MAPS["centre"](step, 0)[1]
    assert middle.argmax() == 10 * 28 + 13
    assert torch.allclose(middle, middle.flip(0))
    for name in ("random pixels", "random patches"):
        first, again, other = (REFERENCE_MAPS[name](step, seed) for seed in (1, 1, 2))
        assert first.shape == (2, 21, 28)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    pixels, patches = (REFERENCE_MAPS[name](step, 0) for name in ("random pixels", "random patches"))
    assert patches.diff(dim=2).abs().mean() < pixels.diff(dim=2).abs().mean() / 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_table(corner, looked_at, where_it_looks):
    def there(pictures, classes):
        return where_it_looks(pictures, classes).to(pictures)

    wanted = compare_methods(corner, looked_at, {"there": there})
    found = compare_methods(corner.cuda(), looked_at, {"there": there})
    for metric in ("deletion", "insertion", "road", "drop"):
        at = found.metrics.index(metric)
        assert torch.allclose(found.values[:, at], wanted.values[:, at], atol=1e-3), metric


def test_what_is_unknown_is_told(corner, looked_at, where_it_looks):
    with pytest.raises(InspectionError, match="no metric 'magic'"):
        compare_methods(corner, looked_at, {"there": where_it_looks}, metrics=["magic"])
    with pytest.raises(InspectionError, match="name of a reference map"):
        compare_methods(corner, looked_at, {"edges": where_it_looks})
    assert {"deletion", "insertion", "road", "drop", "increase", "infidelity", "max-sensitivity"} == set(METRICS)
