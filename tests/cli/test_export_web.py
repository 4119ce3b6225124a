import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cutaway.cli import main
from cutaway.serve.web.runtime import BUILDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runtime(tmp_path: Path) -> str:
    """A folder that has the form of an unpacked ONNX Runtime Web."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for module, glue, wasm in BUILDS.values():
        (folder / module).write_bytes(b"/*! ONNX Runtime Web v1.2.3 */")
        (folder / glue).write_bytes(b"")
        (folder / wasm).write_bytes(b"\0asm")
    return str(tmp_path / "package")


def test_a_run_is_exported_and_put_into_a_page_and_so_is_the_file(convolutional_run, runtime, capsys) -> None:
    assert main(["export", "run", "--out", "m.onnx", "--web", "site", "--web-runtime", runtime]) == 0
    said = capsys.readouterr().out
    assert "exported m.onnx" in said
    assert "the page site needs no server of its own" in said
    assert "python -m http.server" in said
    assert Path("site/model.onnx").read_bytes() == Path("m.onnx").read_bytes()

    assert main(["export", "m.onnx", "--web", "again", "--web-runtime", runtime, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["web"]["folder"] == "again"
    assert told["web"]["runtime_version"] == "1.2.3"
    assert Path("again/index.html").read_bytes() == Path("site/index.html").read_bytes()


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "safetensors", "blake3", "gradio", "fastapi", "onnx"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from cutaway.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_file_is_put_into_a_page_where_torch_is_not(runtime, tmp_path: Path, convolutional_run) -> None:
    assert main(["export", "run", "--out", "m.onnx"]) == 0
    words = ["export", "m.onnx", "--web", "site", "--web-runtime", runtime]
    command = [sys.executable, "-c", WITHOUT_TORCH, *words]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
    assert Path("site/index.html").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--web-runtime", "x"], "no page was asked for"),
        (["run", "--web", "site", "--compare"], "--web makes a page of the export in fp32"),
        (["run", "--web", "site", "--precision", "int8"], "--web makes a page of the export in fp32"),
        (["run", "--web", "site", "--web-runtime", "x"], "There is no folder x"),
        (["run", "--web", "run"], "something other than an earlier page"),
        (["m.onnx", "--web", "site", "--opset", "19"], "exported already, and --opset says how to export"),
        (["m.onnx", "--web", "site", "--no-explain"], "exported already, and --no-explain says how to export"),
        (["m.onnx", "--web", "site", "--network", "lenet5"], "exported already, and --network or another option"),
    ],
)
def test_what_goes_wrong_with_a_page_is_told_before_the_work(convolutional_run, capsys, words, sentence) -> None:
    Path("m.onnx").write_bytes(b"\x08")
    before = sorted(Path().rglob("*"))
    assert main(["export", *words]) == 1
    assert sentence in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before
