from __future__ import annotations

from pathlib import Path

import pytest

from cutaway.checkpoints import find, write_bundle
from cutaway.cli import export_reference, served_runs
from cutaway.cli.served_runs import is_reference, layers_as_html, prepare
from cutaway.errors import BundleError, SettingsError
from cutaway.inspect import layer_table
from cutaway.networks import NetworkSpec, build
from cutaway.serve.classifier import Classifier


class Exports(Exception):
    pass


def export_again(*_, **__):
    raise Exports


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("run", True), ("run@last", True), ("model.onnx", False), ("missing.onnx", False), ("missing@last", True)],
)
def test_folders_are_references_and_files_are_not(tmp_path, name: str, wanted: bool) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "model.onnx").touch()
    assert is_reference(tmp_path / name) is wanted


@pytest.mark.parametrize(("name", "said"), [("fist", "Did you mean {}/first?"), (".", "Name one of them: {}/first.")])
def test_run_that_is_not_there_and_folder_of_runs_are_told_which_there_are(tmp_path, name: str, said: str) -> None:
    (tmp_path / "first" / "checkpoints").mkdir(parents=True)
    assert is_reference(tmp_path / name)
    with pytest.raises(BundleError) as told:
        prepare(str(tmp_path / name))
    assert told.value.hint == said.format(tmp_path)


def test_folder_with_an_at_sign_in_its_name_is_itself(tmp_path) -> None:
    (tmp_path / "a@b").mkdir()
    assert is_reference(tmp_path / "a@b")


@pytest.mark.slow
def test_run_is_exported_once_for_each_bundle(convolutional_run: Path, monkeypatch, capsys) -> None:
    served = prepare("run", page=False)

    model = convolutional_run / "export" / "model.onnx"
    assert (served.model, served.tabs) == (model, ())
    assert Classifier(model, provider="cpu").metadata.bundle == find("run").manifest.digest()
    assert "verified against PyTorch" in capsys.readouterr().out

    monkeypatch.setattr(export_reference, "export_reference", export_again)
    assert prepare("run", page=False).model == model
    assert "served as it is" in capsys.readouterr().out

    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Exports):
        prepare("run", page=False)

    model.write_bytes(whole)
    stored = find("run")
    spec = NetworkSpec(name="lenet5", num_classes=10, input_shape=(1, 28, 28))
    write_bundle(stored.path.with_name("step-00009999"), stored.manifest, {"model": dict(build(spec).state_dict())})
    with pytest.raises(Exports):
        prepare("run@last", page=False)


def test_no_file_of_another_kind_is_written_over(convolutional_run: Path) -> None:
    model = convolutional_run / "export" / "model.onnx"
    model.parent.mkdir()
    model.write_text("a person's notes")

    with pytest.raises(SettingsError, match="no ONNX file"):
        prepare("run")
    assert model.read_text() == "a person's notes"


def test_page_of_a_run_has_its_layers(convolutional_run: Path) -> None:
    (tab,) = served_runs._tabs(find("run").path, ())
    assert tab.title == "Layers"


def test_page_goes_without_layers_where_the_network_cannot_be_built(convolutional_run: Path, capsys) -> None:
    stored = find("run")
    next(stored.path.glob("model.safetensors")).unlink()

    assert served_runs._tabs(stored.path, ()) == ()
    assert "no table of layers" in capsys.readouterr().out


def test_table_of_layers_has_a_line_a_layer_and_totals() -> None:
    network = build(NetworkSpec(name="lenet5", num_classes=10, input_shape=(1, 28, 28)))
    table = layer_table(network, (1, 28, 28))

    html = layers_as_html(table)

    assert html.count("<tr>") == len([row for row in table.rows if row.has_own]) + 2
    assert f"{table.totals.parameters:,}" in html
