"""The README's words about serving are true: its `curl` lines, its Python and its commands."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutaway.cli import main
from cutaway.cli.arguments import parse
from cutaway.cli.predicting import PredictOptions
from cutaway.cli.serving import ServeOptions
from cutaway.images import encode_png
from cutaway.serve import server
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860"
CURL_LINES = re.findall(r"^curl .+", README, re.MULTILINE)


@pytest.fixture(scope="module")
def url(model_path) -> Iterator[str]:
    with server.running(create_app(Classifier(model_path), page=False, name="first")) as url:
        yield url


@pytest.fixture
def folder(tmp_path, pictures, monkeypatch) -> Path:
    (tmp_path / "photos").mkdir()
    for name, color in (("shirt.png", "red"), ("boot.png", "blue"), ("photos/a.png", "green"), ("b.jpg", "grey")):
        (tmp_path / name).write_bytes(encode_png(pictures(color)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_lines_to_try() -> None:
    assert len(CURL_LINES) >= 7


@pytest.mark.skipif(shutil.which("curl") is None, reason="runs curl")
@pytest.mark.parametrize("line", CURL_LINES, ids=range(len(CURL_LINES)))
def test_curl(line: str, url, folder) -> None:
    command = line.replace("curl ", "curl --silent --fail-with-body --noproxy '*' ", 1).replace(ADDRESS, url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=folder, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    if line.endswith("/metrics"):
        assert "cutaway_places" in done.stdout
        return
    answer = json.loads(done.stdout)
    if "/v1/classify" in line:
        tops = [result["top"][0]["label"] for result in answer["results"]]
        assert tops == (["red", "blue"] if "boot" in line else ["red"])
        assert all(result["overlay"] for result in answer["results"]) == ("overlay" in line)
        assert all(result["heatmap"] for result in answer["results"]) == ("numbers" in line)
    elif line.endswith("/infer"):
        assert answer["outputs"][0]["data"][0].endswith(":2:blue")
    else:
        assert answer["name" if "/v2" in line else "classes"]


def test_python(url, folder, capsys) -> None:
    (block,) = [code for code in re.findall(r"```python\n(.+?)```", README, re.DOTALL) if "Client(" in code]
    exec(block.replace(ADDRESS, url), {})
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["shirt.png", "red"],
        ["boot.png", "blue"],
    ]


def test_predicting_by_a_server(url, folder, capsys) -> None:
    (line,) = re.findall(r"^cutaway (predict .*--server .*)", README, re.MULTILINE)
    assert main(line.replace(ADDRESS, url).replace("'", "").split()) == 0
    assert len(list(io.StringIO(capsys.readouterr().out))) == 3


def test_every_line_that_starts_a_server_is_understood() -> None:
    lines = re.findall(r"^cutaway serve (.+)", README, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        parse(ServeOptions, "serve", line.split())
    known = set(re.findall(r"--[a-z-]+", " ".join(_option_names())))
    section = README.partition("## Over HTTP")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(--[a-z-]+)", section))
    asking = {name for name in _option_names(PredictOptions) if name.startswith("--server")}
    assert named <= known | asking | {"--no-page"}


def _option_names(options: type = ServeOptions) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in options.__dataclass_fields__]
