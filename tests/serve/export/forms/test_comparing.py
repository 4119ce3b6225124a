"""All forms side by side, and which is the best."""

import tempfile
import time

import numpy as np
import pytest

from cutaway.errors import ExportError
from cutaway.serve.export.forms import Form, FormFigures, Limits, calibration_pictures, compare_forms
from cutaway.serve.export.forms.comparing import best_of
from cutaway.serve.export.forms.timing import Latencies, time_side_by_side

FIGURES = FormFigures(10, 0.9, 0.9, 1.0, 0.0)


def form(precision, num_bytes, milliseconds, against=""):
    return Form(precision, num_bytes, FIGURES, {1: milliseconds, 8: 1.0}, against)


@pytest.mark.parametrize(
    ("forms", "best"),
    [
        ([form("fp32", 100, 2.0), form("int8", 25, 1.0)], "int8"),
        ([form("fp32", 100, 1.0), form("int8", 25, 2.0)], "fp32"),
        ([form("fp32", 100, 2.0), form("int8", 25, 1.0, "accuracy drops")], "fp32"),
        # Within 5 % of the shortest time the smallest counts.
        ([form("fp32", 100, 1.00), form("fp16", 50, 1.04), form("int8", 25, 1.06)], "fp16"),
        ([form("fp32", 100, 1.0), Form("bf16", against="does not run")], "fp32"),
    ],
)
def test_the_best_is_the_quickest_that_passes_and_of_equals_the_smallest(forms, best):
    assert best_of(forms) == best


def test_every_form_is_measured_and_none_is_kept(exported, fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    comparison = compare_forms(
        exported,
        validation=fashion.valid.take(range(60)),
        calibration=calibration_pictures(fashion.train, 16),
        limits=Limits(accuracy_drop=0.05),
        provider="cpu",
    )
    by_name = {one.precision: one for one in comparison.forms}
    assert list(by_name) == ["fp32", "fp16", "bf16", "int8", "int8-dynamic"]
    assert not by_name["bf16"].passes
    assert "no Conv" in by_name["bf16"].against
    assert by_name["bf16"].milliseconds == {}
    assert by_name["fp32"].figures.top1_agreement == 1
    for name in ("fp16", "int8", "int8-dynamic"):
        assert by_name[name].passes
        assert by_name[name].num_bytes < by_name["fp32"].num_bytes
        assert by_name[name].figures.pictures == 60
        assert set(by_name[name].milliseconds) == {1, 8}
        assert min(by_name[name].milliseconds.values()) > 0
    assert by_name[comparison.best].passes
    assert list(tmp_path.iterdir()) == []


def test_a_form_that_loses_too_much_is_in_the_table_and_never_the_best(exported, fashion):
    comparison = compare_forms(
        exported,
        validation=fashion.valid.take(range(60)),
        calibration=[np.zeros((28, 28, 1), np.uint8)],
        provider="cpu",
    )
    broken = next(one for one in comparison.forms if one.precision == "int8")
    assert broken.figures.accuracy_drop > 0.1
    assert "accuracy drops" in broken.against
    assert comparison.best != "int8"


def test_nothing_to_measure_on_is_said(exported, fashion):
    with pytest.raises(ExportError, match="there are none"):
        compare_forms(exported, validation=fashion.valid.take([]), calibration=[])


class Waiting:
    """A classifier that takes a second for each picture, on a clock of its own."""

    def __init__(self, clock, seconds, metadata):
        self.clock, self.seconds, self.metadata = clock, seconds, metadata
        self.called = []

    def __call__(self, images, top_k):
        self.clock[0] += self.seconds * len(images)
        self.called.append(self.clock[0])


def test_times_are_medians_of_interleaved_rounds(exported, metadata_of, pictures, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    metadata = metadata_of(exported)
    quick, slow = Waiting(clock, 0.001, metadata), Waiting(clock, 0.003, metadata)
    latencies = time_side_by_side({"quick": quick, "slow": slow}, pictures)
    assert latencies.milliseconds["quick"] == {1: pytest.approx(1), 8: pytest.approx(8)}
    assert latencies.milliseconds["slow"] == {1: pytest.approx(3), 8: pytest.approx(24)}
    assert all(a < b for a, b in zip(quick.called, slow.called, strict=True))
    assert quick.called[2] > slow.called[1] > quick.called[1]


@pytest.mark.parametrize(("load", "was_loaded"), [(None, False), (0.3, False), (1.9, False), (5.0, True)])
def test_a_machine_at_work_is_noticed(load, was_loaded):
    assert Latencies({}, load, 2).was_loaded == was_loaded
