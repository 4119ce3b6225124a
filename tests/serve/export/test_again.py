"""A file that is compared again with its network, and with others that are not its own."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from cutaway.errors import ExportError, ServingError
from cutaway.networks import NetworkSpec, build
from cutaway.serve import classifier
from cutaway.serve.export import compare_file, export_module, verification, verify_file
from cutaway.serve.export.forms import Limits, calibration_pictures, make_form
from cutaway.serve.export.forms.judging import FormFigures, objection
from cutaway.serve.export.results import Origin
from cutaway.serve.metadata import seal
from cutaway.serve.sessions import open_session

BUNDLE = "ab" * 32


@pytest.fixture(scope="module")
def exported(lenet, fashion, fashion_preprocessing, pictures, tmp_path_factory):
    """LeNet with its heat-map, a layer's maps and a temperature; and what its export measured."""
    out = tmp_path_factory.mktemp("again") / "model.onnx"
    origin = Origin("lenet5", bundle=BUNDLE)
    return export_module(
        lenet,
        fashion_preprocessing,
        fashion.classes,
        out,
        images=pictures,
        layers=["conv1"],
        temperature=1.5,
        origin=origin,
    )


@pytest.fixture(scope="module")
def against_lenet(lenet, fashion, fashion_preprocessing):
    """Compares with LeNet, or with what is given in its place."""

    def run(compare, path, **given):
        whole = {"network": lenet, "preprocessing": fashion_preprocessing, "classes": fashion.classes} | given
        return compare(path, **whole)

    return run


@pytest.fixture(scope="module")
def validation(fashion):
    return fashion.valid.take(np.arange(0, len(fashion.valid), max(1, len(fashion.valid) // 150)))


def altered(network):
    """The same network with one weight of the head changed by a tenth."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        list(other.parameters())[-2].mul_(1.1)
    return other


def test_a_file_measures_the_same_as_at_its_export(exported, against_lenet, pictures):
    again = against_lenet(verify_file, exported.path, images=pictures, bundle=BUNDLE)
    assert again.passes
    assert again.figures == exported.figures
    assert again.limits == exported.metadata.verification.thresholds
    assert (again.device, again.notes) == ("cpu", ())


def test_other_weights_are_refused_and_measured(exported, lenet, against_lenet, pictures):
    given = {"network": altered(lenet), "images": pictures, "bundle": "cd" * 32}
    with pytest.raises(ExportError, match="exported file disagrees with PyTorch") as refused:
        against_lenet(verify_file, exported.path, **given)
    assert "the network that it was made of" in refused.value.hint
    compared = against_lenet(compare_file, exported.path, **given)
    assert not compared.passes
    assert compared.figures.probability_difference > 1e-3
    assert compared.notes == (
        "The file was made of the bundle abababababab, and is compared with the bundle cdcdcdcdcdcd.",
    )
    # The bundle says where its weights are from.
    assert against_lenet(compare_file, exported.path, weights="ef" * 32, **given).notes == compared.notes


def test_the_network_is_left_in_the_mode_in_which_it_was(exported, lenet, against_lenet, pictures):
    training = copy.deepcopy(lenet).train()
    assert against_lenet(compare_file, exported.path, network=training, images=pictures, bundle=BUNDLE).passes
    assert all(module.training for module in training.modules())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda classes: classes[1:], "The file has 10 classes, and the network 9"),
        (
            lambda classes: (classes[1], classes[0], *classes[2:]),
            r"The file calls output 0 'T-shirt/top', and the network",
        ),
    ],
)
def test_other_classes_are_refused(change, said, exported, against_lenet, fashion):
    with pytest.raises(ExportError, match=said):
        against_lenet(compare_file, exported.path, classes=change(fashion.classes))


def test_a_file_that_reads_its_heat_map_elsewhere_is_refused(exported, against_lenet):
    other = build(NetworkSpec(name="resnet-small", num_classes=10, input_shape=(1, 28, 28)))
    with pytest.raises(ExportError, match="heat-map is read at a layer of another network"):
        against_lenet(compare_file, exported.path, network=other)


def test_another_preprocessing_is_told_and_figures_decide(
    exported, lenet, against_lenet, fashion, fashion_preprocessing, pictures
):
    other = fashion_preprocessing.model_copy(update={"mean": (0.3,)})
    compared = against_lenet(compare_file, exported.path, preprocessing=other, images=pictures, bundle=BUNDLE)
    assert compared.notes == ("The file prepares pictures otherwise than the network: mean (0.286,) and not (0.3,).",)
    assert not compared.passes


def test_a_damaged_file_is_refused_as_everywhere(exported, against_lenet, tmp_path):
    data = bytearray(exported.path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(data)
    with pytest.raises(ServingError, match="is damaged: it is not the file that was exported"):
        against_lenet(compare_file, tmp_path / "damaged.onnx")


def test_the_file_is_run_where_it_was_asked_to_be(exported, against_lenet, pictures, monkeypatch):
    asked = []

    def noted(data, provider, *rest):
        asked.append(provider)
        return open_session(data, "cpu", *rest)

    for module in (classifier, verification):
        monkeypatch.setattr(module, "open_session", noted)
    against_lenet(compare_file, exported.path, images=pictures, provider="auto")
    # To read it, to run it on batches, and to go the whole way from encoded files.
    assert asked == ["auto"] * 3


def test_without_pictures_it_says_that_they_were_generated(exported, against_lenet):
    compared = against_lenet(compare_file, exported.path, bundle=BUNDLE)
    assert compared.passes
    assert compared.notes == ("The pictures were generated, since there were none.",)


def resealed(source, out, edit):
    """Changes a file and seals it again, as nobody does by accident."""
    model = onnx.load(source)
    edit(model, {entry.key: entry for entry in model.metadata_props})
    (seal_entry,) = (entry for entry in model.metadata_props if entry.key == "cutaway.sha256")
    seal_entry.value = "0" * 64
    out.write_bytes(seal(model.SerializeToString()))
    return out


def test_a_file_s_own_looser_limits_hold_and_are_told(exported, lenet, against_lenet, pictures, tmp_path):
    def loosen(model, properties):
        said = json.loads(properties["cutaway.verification"].value)
        # Without the others the usual ones are meant.
        said["thresholds"] = {"probability_difference": 1.0, "logit_difference": 1.0, "heatmap_share": 0.0}
        properties["cutaway.verification"].value = json.dumps(said)

    loose = resealed(exported.path, tmp_path / "loose.onnx", loosen)
    compared = against_lenet(compare_file, loose, network=altered(lenet), images=pictures, bundle=BUNDLE)
    assert compared.limits["top1_agreement"] == 1
    assert compared.passes
    (note,) = compared.notes
    assert "looser" in note
    assert "probability_difference 1 in place of 0.0001" in note
    assert "heatmap_share 0 in place of 0.8" in note
    assert "top1" not in note


@pytest.fixture(scope="module")
def form(exported, fashion, validation, tmp_path_factory):
    out = tmp_path_factory.mktemp("form") / "int8.onnx"
    limits = Limits(accuracy_drop=0.03)
    calibration = calibration_pictures(fashion.train, 32)
    return make_form(exported.path, out, "int8", validation=validation, calibration=calibration, limits=limits)


def test_a_smaller_form_is_judged_by_accuracy_as_at_its_export(form, against_lenet, validation):
    again = against_lenet(verify_file, form.path, validation=validation, bundle=BUNDLE)
    # PyTorch takes the place of the file in fp32, which answers the same up to float32.
    assert again.figures.accuracy == form.figures.accuracy
    assert again.figures.accuracy_before == form.figures.accuracy_before
    assert again.figures.heatmap_correlation == pytest.approx(form.figures.heatmap_correlation, abs=1e-3)
    assert again.figures.probability_difference == pytest.approx(form.figures.probability_difference, abs=1e-4)
    assert again.figures.feature_correlation == pytest.approx(form.figures.feature_correlation, abs=1e-3)
    assert again.limits == {
        "accuracy_drop": 0.03,
        "top1_agreement": 0.9,
        "heatmap_correlation": 0.9,
        "feature_correlation": 0.9,
    }
    assert again.notes == ("The file is held to looser limits than usual: accuracy_drop 0.03 in place of 0.01.",)


def test_a_smaller_form_of_another_network_is_refused(form, against_lenet, validation):
    other = build(NetworkSpec(name="lenet5", num_classes=10, input_shape=(1, 28, 28)))
    with pytest.raises(ExportError, match="The int8 form is not as good as PyTorch in fp32: "):
        against_lenet(verify_file, form.path, network=other, validation=validation)


def test_a_smaller_form_needs_labelled_pictures(form, against_lenet, validation):
    with pytest.raises(ExportError, match="int8 is judged on labelled pictures, and there are none"):
        against_lenet(compare_file, form.path, validation=validation.take([]))


def test_a_form_is_refused_by_figures_and_limits_that_are_not_numbers():
    good = FormFigures(10, 0.9, 0.9, 1.0, 0.0, 1.0)
    assert objection(good, Limits()) == ""
    for broken in (replace(good, accuracy=math.nan), replace(good, top1_agreement=math.nan)):
        assert objection(broken, Limits())
    assert objection(replace(good, heatmap_correlation=math.nan), Limits())
    assert objection(good, Limits(top1_agreement=math.nan))


def test_a_graph_that_was_changed_and_sealed_again_is_refused(exported, against_lenet, pictures, tmp_path):
    def scale(model, properties):
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * np.float32(1.05)).tobytes()

    changed = resealed(exported.path, tmp_path / "changed.onnx", scale)
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        against_lenet(verify_file, changed, images=pictures)
