"""`cutaway export --precision` and `--compare` on an untrained network: what is said, written and refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from scipy.special import softmax

from cutaway.cli import export_forms, main
from cutaway.cli.export_forms import tell_comparison
from cutaway.datasets import load
from cutaway.errors import ExportError
from cutaway.serve import Classifier
from cutaway.serve.export import forms, temperature
from cutaway.serve.export.forms import Form, FormComparison, FormFigures, Limits
from cutaway.serve.export.forms.timing import Latencies

# An untrained network's near classes are all alike, so only what it is allowed to lose decides.
LOOSE = ["--max-accuracy-drop", "1"]
FEW = ["--calibration-pictures", "16"]


def test_the_table_names_the_best_what_speaks_against_others_and_a_machine_at_work(capsys):
    figures = FormFigures(1000, 0.9, 0.892, 0.98, 0.1, 0.97)
    forms = (
        Form("fp32", 2_000_000, FormFigures(1000, 0.9, 0.9, 1.0, 0.0, 1.0), {1: 4.0, 8: 30.0}),
        Form("bf16", against="bf16 does not run on this machine: why."),
        Form("int8", 500_000, figures, {1: 2.0, 8: 12.5}),
        Form("int8-dynamic", 500_000, figures, {1: 9.0, 8: 72.0}, "accuracy drops"),
    )
    dynamic = Form("int8-dynamic", 500_000, figures, {1: 9.0, 8: 72.0})
    tell_comparison(FormComparison((*forms[:3], dynamic), "int8", "cpu", Latencies({}, 0.0, 2), Limits()))
    said = capsys.readouterr().out
    assert "a picture's answer depends a little on its neighbours" in said
    assert "others were at work" not in said
    tell_comparison(FormComparison(forms, "int8", "cpu", Latencies({}, 5.0, 2), Limits()))
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title.rstrip() == "Forms on cpu, 1,000 validation pictures"
    assert header.split()[:5] == ["form", "size", "accuracy", "drop", "same"]
    assert rows[0].split() == ["fp32", "2.0", "MB", "90.00%", "+0.00", "100.00%", "1.0000", "4.00", "30.00", "passes"]
    assert rows[1].split() == ["bf16", "-", "-", "-", "-", "-", "-", "-", "does", "not", "run"]
    assert rows[2].split() == ["int8", "500.0", "kB", "89.20%", "+0.80", "98.00%", "0.9700", "2.00", "12.50", "best"]
    assert rows[3].split()[-2:] == ["72.00", "refused"]
    assert rows[4:6] == ["bf16: bf16 does not run on this machine: why", "int8-dynamic: accuracy drops"]
    assert "others were at work on this machine (load 5.0 on 2 cores)" in rows[6]
    assert rows[-1] == "next: the same command with --precision int8 in place of --compare"


def test_one_form_is_written_and_told_as_json(convolutional_run, capsys):
    Path("run/export/model-fp16.examples").mkdir(parents=True)
    assert main(["export", "run", "--precision", "fp16", "--json", *LOOSE, "--no-explain"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "model-fp16.examples are of an earlier export" in told["notes"][0]
    assert told["path"] == "run/export/model-fp16.onnx"
    assert Path(told["path"]).stat().st_size == told["bytes"]
    assert told["precision"] == "fp16"
    assert told["thresholds"] == {"accuracy_drop": 1.0, "top1_agreement": 0.9}
    assert told["accuracy_drop"] == pytest.approx(told["accuracy_before"] - told["accuracy"])
    assert {path.name for path in Path("run/export").iterdir()} == {"model-fp16.onnx", "model-fp16.examples"}
    assert told["calibration"] is None


@pytest.mark.slow
def test_a_calibrated_form_divides_by_the_temperature_that_is_told(convolutional_run, monkeypatch, capsys):
    # For an untrained network no temperature is best.
    monkeypatch.setattr(temperature, "fit_temperature", lambda logits, labels: (2.5, 0.1))
    words = ["export", "run", "--calibrate", "--no-explain", *LOOSE]
    assert main([*words, "--precision", "fp16", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Classifier(told["path"], provider="cpu").metadata.temperature == told["calibration"]["temperature"] == 2.5
    picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 3), dtype=np.uint8)
    logits, probabilities = ort.InferenceSession(told["path"]).run(["logits", "probabilities"], {"images": picture})
    np.testing.assert_allclose(probabilities, softmax(logits / 2.5, axis=1), atol=1e-6)
    assert np.abs(probabilities - softmax(logits, axis=1)).max() > 1e-4
    assert main([*words, "--precision", "fp16"]) == 0
    assert "calibrated: temperature 2.500" in capsys.readouterr().out
    assert main([*words, *FEW, "--compare", "--provider", "cpu"]) == 0
    assert "calibrated: temperature 2.500" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--compare"], ["--precision", "int8"]])
def test_forms_are_calibrated_on_training_pictures_and_judged_on_validation_where_it_was_asked(
    words, convolutional_run, monkeypatch
):
    asked = {}

    def note(*arguments, **named):
        asked.update(named)
        raise ExportError("enough")

    aside = SimpleNamespace(result=SimpleNamespace(path=Path("fp32.onnx")), notes=())
    monkeypatch.setattr(export_forms, "export_source", lambda *_, **__: aside)
    for name in ("compare_forms", "make_form"):
        monkeypatch.setattr(forms, name, note)
    assert main(["export", "run", *words, *FEW, "--provider", "cpu", "--max-accuracy-drop", "0.02"]) == 1
    validation = asked["validation"]
    assert (validation.name, len(validation)) == ("valid", 600)
    held_out = {
        picture.tobytes() for split in (validation, load("fashion-mnist-sample").test) for picture in split.images
    }
    assert len(asked["calibration"]) == 16
    assert not any(picture.tobytes() in held_out for picture in asked["calibration"])
    assert (asked["provider"], asked["limits"].accuracy_drop) == ("cpu", 0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--compare", "--out", "x.onnx"], "--compare writes no file"),
        (["run", "--precision", "int8", "--calibration-pictures", "0"], "at least 1 is needed"),
        (["run", "--precision", "int8", "--max-accuracy-drop", "2"], "it is a share from 0 to 1"),
        (["nowhere", "--precision", "int8"], "no run or bundle at nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_exported(words, message, convolutional_run, capsys):
    assert main(["export", *words]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("run/export").exists()
    assert not Path("x.onnx").exists()


def test_all_forms_as_json_and_no_file(convolutional_run, capsys):
    assert main(["export", "run", "--compare", "--json", *LOOSE, *FEW, "--no-explain", "--provider", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    by_name = {form["precision"]: form for form in told["forms"]}
    assert by_name[told["best"]]["passes"]
    assert not by_name["bf16"]["passes"]
    assert by_name["fp32"]["figures"]["accuracy_drop"] == 0
    assert set(by_name["fp32"]["milliseconds"]) == {"1", "8"}
    assert told["latencies"]["num_cores"] >= 1
    assert not Path("run/export").exists()
