"""One form: what it keeps, how it is judged, and that nothing is left of one that fails."""

import tempfile

import numpy as np
import onnx
import pytest

from cutaway.errors import ExportError
from cutaway.serve.classifier import Classifier
from cutaway.serve.export import compare_heatmaps
from cutaway.serve.export.forms import Limits, calibration_pictures, make_form
from cutaway.serve.export.forms.seam import find_seam, watch
from cutaway.serve.export.forms.shrinking import shrunk
from cutaway.serve.metadata import Verification


@pytest.fixture(scope="module")
def validation(fashion):
    return fashion.valid.take(np.arange(0, len(fashion.valid), max(1, len(fashion.valid) // 200)))


@pytest.fixture(scope="module")
def calibration(fashion):
    return calibration_pictures(fashion.train, 32)


@pytest.mark.parametrize(("precision", "size"), [("fp16", 0.7), ("int8", 0.6), ("int8-dynamic", 0.6)])
def test_a_form_is_smaller_and_serves_and_explains(precision, size, exported, validation, calibration, tmp_path):
    out = tmp_path / "small.onnx"
    result = make_form(
        str(exported), str(out), precision, validation=validation, calibration=calibration, provider="cpu"
    )
    assert result.num_bytes == out.stat().st_size < size * exported.stat().st_size
    before, form = Classifier(exported, provider="cpu"), Classifier(out, provider="cpu")
    assert form.metadata == result.metadata
    assert form.metadata.precision == precision
    assert form.metadata.calibration == ("32 training pictures" if precision == "int8" else None)
    assert form.metadata.verification.thresholds == {
        "accuracy_drop": 0.01,
        "top1_agreement": 0.9,
        "heatmap_correlation": 0.9,
        "feature_correlation": 0.9,
    }
    ours, theirs = [], []
    for start in range(0, len(validation), 64):
        images = [validation.image(index) for index in range(start, min(start + 64, len(validation)))]
        theirs += before(images, features=True)
        ours += form(images, class_index=[answer.top[0].index for answer in theirs[start:]], features=True)
    right = np.mean([answer.top[0].index == label for answer, label in zip(ours, validation.labels, strict=True)])
    assert result.figures.accuracy == pytest.approx(right)
    correlations, _ = compare_heatmaps(*(np.stack([a.heatmap for a in answers]) for answers in (ours, theirs)))
    assert result.figures.heatmap_correlation == pytest.approx(np.nanmean(correlations))
    assert result.figures.heatmap_correlation > 0.95
    assert 0 < result.figures.probability_difference < 0.3
    # The layer's own output, of which the ReLU that follows cuts half off.
    maps, wanted = (np.stack([answer.features["conv1"] for answer in answers]) for answers in (ours, theirs))
    assert wanted.min() < -0.5 * wanted.max()
    assert np.abs(maps - wanted).max() < 0.2 * wanted.max()
    assert result.figures.feature_correlation > 0.99


def test_dynamic_answers_depend_on_the_batch_and_those_of_other_forms_do_not(
    exported, validation, calibration, tmp_path
):
    """Why the command says so: the scale of an activation is that of the whole batch."""
    images = [validation.image(index) for index in range(16)]
    for precision, depends in (("fp16", False), ("int8", False), ("int8-dynamic", True)):
        out = tmp_path / f"{precision}.onnx"
        make_form(exported, out, precision, validation=validation, calibration=calibration)
        form = Classifier(out, provider="cpu")
        together = np.stack([answer.probabilities for answer in form(images)])
        alone = np.stack([form([image])[0].probabilities for image in images])
        # Rounding to another of two steps may add up to more than float32's, and stays far below the other effect.
        assert (np.abs(together - alone).max() > 1e-3) == depends, precision


def test_the_preprocessing_of_a_quantised_file_is_the_same_to_the_bit(exported, metadata_of, calibration):
    data, metadata = shrunk(
        exported.read_bytes(), "int8", calibration=calibration, verification=Verification(data="", thresholds={})
    )
    before, after = onnx.load(exported), onnx.load_from_string(data)
    seam = find_seam(before, metadata_of(exported))
    assert find_seam(after, metadata) == seam
    photo = np.random.default_rng(5).integers(0, 256, (2, 61, 87, 3), dtype=np.uint8)
    np.testing.assert_array_equal(watch(before, [seam])(photo)[seam], watch(after, [seam])(photo)[seam])
    kinds = {tensor.data_type for tensor in after.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", 20)]


def test_an_accident_of_quantisation_is_refused_by_measured_accuracy(exported, validation, tmp_path):
    """Calibrated on black pictures, the ranges cut everything off: the file would load, run, and be wrong."""
    out = tmp_path / "small.onnx"
    out.write_bytes(b"earlier")
    black = [np.zeros((28, 28, 1), np.uint8)] * 4
    with pytest.raises(ExportError, match=r"int8 form is not as good as fp32: accuracy drops from .*200 pictures"):
        make_form(exported, out, "int8", validation=validation, calibration=black)
    assert out.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [out]


def test_a_form_that_is_another_classifier_is_refused_though_as_accurate(exported, validation, calibration, tmp_path):
    limits = Limits(accuracy_drop=1.0, top1_agreement=1.0, heatmap_correlation=-1)
    with pytest.raises(ExportError, match="the top class changes"):
        make_form(
            exported, tmp_path / "x.onnx", "int8", validation=validation, calibration=calibration[:1], limits=limits
        )
    assert list(tmp_path.iterdir()) == []


def test_a_form_that_does_not_run_here_says_why(exported, validation, tmp_path):
    with pytest.raises(ExportError, match="bf16 does not run on this machine: ONNX Runtime has no Conv for it there"):
        make_form(exported, tmp_path / "x.onnx", "bf16", validation=validation, provider="cpu")
    assert list(tmp_path.iterdir()) == []


def test_without_labelled_or_training_pictures_it_says_so(exported, validation, fashion, tmp_path):
    with pytest.raises(ExportError, match="judged on labelled pictures"):
        make_form(exported, tmp_path / "x.onnx", "fp16", validation=validation.take([]))
    with pytest.raises(ExportError, match="int8 needs pictures of the training split"):
        calibration_pictures(fashion.train.take([]), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_form_is_not_made_of_a_smaller_form(exported, calibration):
    verification = Verification(data="", thresholds={})
    data, _ = shrunk(exported.read_bytes(), "fp16", verification=verification)
    with pytest.raises(ExportError, match="is fp16 already"):
        shrunk(data, "int8", calibration=calibration, verification=verification)


def test_calibration_pictures_are_the_same_every_time_and_of_all_classes(fashion):
    chosen = calibration_pictures(fashion.train, 40)
    again = calibration_pictures(fashion.train, 40)
    assert all(np.array_equal(one, other) for one, other in zip(chosen, again, strict=True))
    known = {fashion.train.image(index).tobytes(): label for index, label in enumerate(fashion.train.labels)}
    counts = np.bincount([known[picture.tobytes()] for picture in chosen])
    assert counts.min() >= 3
    assert len(calibration_pictures(fashion.train.take(range(5)), 40)) == 5


def test_the_same_file_gives_the_same_bytes_and_no_trace_of_this_machine(exported, calibration):
    verification = Verification(data="x", thresholds={})
    one, two = (
        shrunk(exported.read_bytes(), "int8", calibration=calibration, verification=verification)[0] for _ in range(2)
    )
    assert one == two
    assert tempfile.gettempdir().encode() not in one


def test_a_folder_in_its_place_is_told_of_before_the_work(validation, tmp_path):
    with pytest.raises(ExportError, match="is a folder"):
        make_form(tmp_path / "none.onnx", tmp_path, "fp16", validation=validation)
