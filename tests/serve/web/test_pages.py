import json
import re
import shutil
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cutaway.serve
from cutaway import heatmaps
from cutaway.errors import ExportError, ServingError
from cutaway.serve.web import Runtime, write_page
from cutaway.serve.web.folders import check_place

SERVE = Path(cutaway.serve.__file__).parent
OWN_HASH = re.compile(r"[0-9a-f]{16}")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def site(model_path: Path, pretended: Runtime, tmp_path: Path) -> Path:
    return write_page(model_path, tmp_path / "site", pretended).folder


def test_the_page_holds_the_model_and_what_is_needed_to_run_it(site: Path, model_path: Path, pretended) -> None:
    files = contents(site)
    described = json.loads(files["model.json"])
    assert files["model.onnx"] == model_path.read_bytes()
    assert described["classes"] == ["red", "green", "blue", "grey"]
    assert described["preprocessing"]["size"] == [8, 8]
    assert described["model"]["bytes"] == model_path.stat().st_size
    assert described["colors"] == heatmaps.color_table().reshape(-1).tolist()
    runtime = {name for name in files if name.startswith("runtime/")}
    assert runtime == {"runtime/" + name.replace(".mjs", ".js") for name in pretended.files}
    for build in ("wasm", "webgpu"):
        named = described["runtime"][build]
        assert {named["module"], named["glue"], named["wasm"]["file"]} <= runtime


def test_the_words_are_those_of_the_served_page(site: Path) -> None:
    page = (site / "index.html").read_text()
    served = "".join(path.read_text() for path in sorted(SERVE.glob("page*.py")) + sorted(SERVE.glob("page/*.py")))
    for sentence in (
        "What is in this picture?",
        "What the network saw",
        "Where the network looked will be shown here.",
        "found what speaks for the class",
        "The map explains the network, right or wrong.",
    ):
        assert sentence in page
        assert sentence in served
    assert "<strong>mean-color</strong> answers with one of 4 classes and shows where it looked." in page
    assert "Grad-CAM" in page or "grad-cam" in page
    assert "your browser, by ONNX Runtime Web 1.2.3" in page
    assert "CPUExecutionProvider" not in page
    assert "$" not in page


def test_names_of_a_stranger_cannot_break_out_of_the_page(make_model, pretended: Runtime, tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>$title'
    model = make_model(network=evil, classes=(evil, "a", "b", "c"))
    page = write_page(model, tmp_path / "site", pretended).folder / "index.html"
    assert "<script>alert" not in page.read_text()
    assert escape(evil) in page.read_text()


def test_every_file_is_named_relatively_and_exists(site: Path) -> None:
    files = contents(site)
    for name, content in files.items():
        if name.endswith((".js", ".css", ".html")) and not name.startswith("runtime/"):
            text = content.decode()
            assert not re.search(r"https?://|url\(", text), name
            for imported in re.findall(r'from "\./([^"]+)"|(?:src|href)="([^"#]+)"', text):
                assert (imported[0] or imported[1]) in files, name
    stored = json.loads(files["files.js"].decode().removeprefix("self.CUTAWAY = ").rstrip(";\n"))
    left_out = {"index.html", "files.js", "service-worker.js"} | {
        n for n in files if "jsep" in n or n == "runtime/ort.min.js"
    }
    assert set(stored["files"]) == {"./"} | (set(files) - left_out)


def test_a_policy_forbids_whatever_is_not_of_the_page(site: Path) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', (site / "index.html").read_text())
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert "unsafe-inline" not in policy[1]


def test_the_same_file_gives_the_same_page_and_another_file_another_version(
    site: Path, make_model, model_path: Path, pretended: Runtime, tmp_path: Path
) -> None:
    again = write_page(model_path, tmp_path / "again", pretended).folder
    assert contents(again) == contents(site)
    other = write_page(make_model(network="other"), tmp_path / "other", pretended).folder
    versions = [json.loads((folder / "model.json").read_text())["version"] for folder in (site, other)]
    assert versions[0] != versions[1]
    assert all(OWN_HASH.fullmatch(version) for version in versions)


def test_examples_go_along(model_path: Path, pretended: Runtime, tmp_path: Path) -> None:
    model = Path(shutil.copy(model_path, tmp_path))
    (tmp_path / "model.examples").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "model.examples" / "0.png")
    index = {"split": "test", "examples": [{"file": "0.png", "label": "green", "class_index": 1}]}
    (tmp_path / "model.examples" / "index.json").write_text(json.dumps(index))
    page = write_page(model, tmp_path / "site", pretended)
    assert page.num_examples == 1
    described = json.loads((page.folder / "model.json").read_text())
    assert described["examples"] == [{"file": "examples/0.png", "label": "green"}]
    assert (page.folder / "examples" / "0.png").is_file()
    assert "examples/0.png" in (page.folder / "files.js").read_text()


def test_a_new_page_takes_the_place_of_an_earlier_one(site: Path, make_model, pretended: Runtime) -> None:
    (site / "examples").mkdir()
    (site / "examples" / "0.png").write_bytes(b"of the earlier one")
    write_page(make_model(network="newer"), site, pretended)
    assert "newer" in (site / "index.html").read_text()
    assert not (site / "examples").exists()
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_a_folder_with_something_else_is_left_alone(model_path: Path, pretended: Runtime, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "index.html").write_text("mine")
    with pytest.raises(ExportError, match="something other than an earlier page"):
        write_page(model_path, tmp_path / "thesis", pretended)
    assert contents(tmp_path) == {"thesis/index.html": b"mine"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="is no folder"):
        write_page(model_path, tmp_path / "file", pretended)


def test_where_no_page_can_be_written_it_is_said_first(model_path: Path, pretended: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="cannot be written: Not a directory") as refused:
        check_place(tmp_path / "file" / "site")
    assert "--web" in refused.value.hint
    check_place(tmp_path / "new" / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(
    site: Path, model_path: Path, pretended: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(site)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cutaway.durable.os.fsync", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write_page(model_path, site, pretended)
    assert contents(site) == before
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_files_that_no_browser_runs_are_refused(
    make_model, model_path: Path, pretended, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("cutaway.serve.web.pages._LARGEST_MODEL", model_path.stat().st_size - 1)
    with pytest.raises(ExportError, match="too large for a browser"):
        write_page(model_path, tmp_path / "site", pretended)
    with pytest.raises(ExportError, match="computed in bf16"):
        write_page(make_model(precision="bf16"), tmp_path / "site", pretended)
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(model_path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ServingError):
        write_page(damaged, tmp_path / "site", pretended)
    assert not (tmp_path / "site").exists()
