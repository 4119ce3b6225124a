"""The temperature against answers by hand, scipy and torchmetrics, and in the file."""

import math

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from cutaway.errors import ExportError
from cutaway.evaluation import Evaluation
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import calibrate, export_module, pipeline
from cutaway.serve.export.graph import Graph
from cutaway.serve.export.temperature import fit_temperature
from cutaway.serve.metadata import from_properties

TINY = Preprocessing(size=(2, 2), color="grey", mean=(0.0,), std=(1.0,))


def drawn(seed: int, num: int, classes: int, temperature: float) -> Evaluation:
    """Labels drawn from the softmax of scores, and these times a temperature, which they should be divided by."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(num, classes, generator=generator)
    labels = torch.multinomial(scores.softmax(1), 1, generator=generator)[:, 0]
    return Evaluation(scores * temperature, labels)


def test_temperature_by_hand():
    # 100 pictures whose two scores are 2 and 0, of which 75 are right: softmax(2 / T) = 0.75 where T = 2 / ln 3. The
    # curvature by 1 / T is 100 * 2 ** 2 * 0.75 * 0.25 = 75.
    labels = torch.tensor([0] * 75 + [1] * 25)
    temperature, error = fit_temperature(torch.tensor([[2.0, 0.0]] * 100), labels)
    assert temperature == pytest.approx(2 / math.log(3), rel=1e-5)
    assert error == pytest.approx(temperature**2 / math.sqrt(75), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(0.2, 5))
def test_temperature_is_scipy_s_and_close_to_the_true_one(seed, classes, true):
    answers = drawn(seed, 2000, classes, true)
    temperature, error = fit_temperature(answers.logits, answers.labels)

    def nll(logarithm: float) -> float:
        return F.cross_entropy(answers.logits.double() / math.exp(logarithm), answers.labels).item()

    theirs = minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9})
    assert temperature == pytest.approx(math.exp(theirs.x), rel=1e-4)
    assert abs(temperature - true) < 6 * error


def test_figures_are_of_the_test_split_and_torchmetrics():
    valid, test = drawn(0, 800, 5, 3.0), drawn(1, 900, 5, 3.0)
    found = calibrate(valid, test)
    assert found.temperature == fit_temperature(valid.logits, valid.labels)[0]
    assert (found.num_fitted, found.measured_on, found.num_measured) == (800, "test", 900)
    for divisor, ece, nll in (
        (1.0, found.ece_before, found.nll_before),
        (found.temperature, found.ece_after, found.nll_after),
    ):
        divided = test.logits.double() / divisor
        theirs = multiclass_calibration_error(divided.softmax(1), test.labels, 5, 15, "l1")
        assert ece == pytest.approx(theirs.item(), abs=1e-6)
        assert nll == pytest.approx(F.cross_entropy(divided, test.labels).item())
    assert found.ece_after < found.ece_before / 3
    assert found.nll_after < found.nll_before
    assert calibrate(valid).measured_on == "valid"
    assert not found.is_on_few
    assert calibrate(drawn(0, 50, 5, 3.0)).is_on_few


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (torch.empty(0, 3), torch.empty(0, dtype=torch.long), "no validation pictures"),
        (torch.eye(3), torch.arange(3), "Of 3 validation pictures nearly none is answered wrongly"),
        (-torch.eye(3), torch.arange(3), "no better than a guess"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), "no better than a guess"),
        (torch.full((2, 2), math.nan), torch.tensor([0, 1]), "not finite"),
    ],
)
def test_pictures_that_say_no_temperature_are_told_of(logits, labels, said):
    with pytest.raises(ExportError, match=said):
        fit_temperature(logits, labels)


def test_the_file_divides_by_the_temperature_and_leaves_its_logits(worked_out, tmp_path):
    out = tmp_path / "model.onnx"
    export_module(worked_out, TINY, ["a", "b"], out, temperature=2.5, explain=False, input_form="float")
    session = ort.InferenceSession(out)
    inputs = torch.rand(3, 1, 2, 2)
    logits, probabilities = session.run(["logits", "probabilities"], {"images": inputs.numpy()})
    theirs = worked_out.eval()(inputs).detach()
    np.testing.assert_allclose(logits, theirs, atol=1e-6)
    np.testing.assert_allclose(probabilities, (theirs / 2.5).softmax(1), atol=1e-6)
    assert from_properties(session.get_modelmeta().custom_metadata_map).temperature == 2.5


def test_a_file_without_the_temperature_that_it_names_is_refused(worked_out, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "Graph", lambda answering, preprocess, temperature: Graph(answering, preprocess))
    with pytest.raises(ExportError, match="probabilities"):
        export_module(
            worked_out, TINY, ["a", "b"], tmp_path / "a.onnx", temperature=2.5, explain=False, input_form="float"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(worked_out, tmp_path, temperature):
    with pytest.raises(ExportError, match="above 0"):
        export_module(worked_out, TINY, ["a", "b"], tmp_path / "model.onnx", temperature=temperature)
