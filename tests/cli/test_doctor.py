from __future__ import annotations

import json
import shutil
import socket
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from cutaway.cli import main
from cutaway.cli.doctor_packages import _numbers, _parsed

CORE = {"numpy", "pillow", "pydantic", "pyyaml", "rich", "tyro", "cutaway"}


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, dict[str, str]]:
    """The findings by name."""
    assert main(["doctor", "--json", *words]) == code
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] == (code == 0)
    return {found["name"]: found for found in said["findings"]}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only the package itself were installed, on a machine with nothing on its path."""
    versions = metadata.version

    def version(name: str) -> str:
        if name not in CORE:
            raise metadata.PackageNotFoundError(name)
        return versions(name)

    monkeypatch.setattr(metadata, "version", version)
    for name in ("torch", "torchvision", "safetensors", "blake3", "onnxruntime", "gradio", "fastapi"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", "")


def test_all_that_the_tests_need_is_here(capsys) -> None:
    findings = told(capsys, "--needs", "train", "inspect", "export", "serve")
    assert {name: found["status"] for name, found in findings.items() if name.startswith("packages")} == {
        "packages": "ok", "packages to train": "ok", "packages to inspect": "ok", "packages to export": "ok",
        "packages to serve": "ok",
    }  # fmt: skip
    assert f"torch {metadata.version('torch')}" in findings["packages to train"]["said"]
    assert "CPU with" in findings["devices"]["said"]
    assert "CPU" in findings["ONNX Runtime's providers"]["said"]
    assert findings["data set fashion-mnist-sample"]["status"] == "ok"


def test_every_line_that_is_not_ok_says_what_to_do(capsys, bare) -> None:
    for found in told(capsys).values():
        assert found["said"]
        assert bool(found["todo"]) == (found["status"] != "ok"), found


def test_the_bare_package_is_fine_until_more_is_needed(capsys, bare) -> None:
    findings = told(capsys)
    assert findings["packages"]["status"] == "ok"
    assert findings["packages to train"]["said"].startswith("without torch, torchvision")
    assert findings["packages to train"]["todo"] == "pip install 'cutaway[train]'"
    assert "serving does without" in findings["devices"]["said"]
    assert findings["browser"]["status"] == "warning"
    told(capsys, "--needs", "train", code=1)
    assert told(capsys, "--needs", "web", code=1)["npm"]["status"] == "missing"


def test_text_names_what_is_missing_and_ends_with_one(capsys, bare) -> None:
    assert main(["doctor", "--needs", "serve"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert any(line.startswith("missing  packages to serve: without onnxruntime") for line in lines)
    assert "         pip install 'cutaway[serve]'" in lines
    assert "packages to serve, ONNX Runtime's providers: not all that is needed is here" in said.err


def test_a_package_that_is_too_old_is_named(capsys, monkeypatch) -> None:
    versions = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.12.1+cpu" if name == "torch" else versions(name))
    found = told(capsys, "--needs", "train", code=1)["packages to train"]
    assert found["said"] == "without torch 2.13 (here is 2.12.1+cpu)"


def test_onnxruntime_gpu_does_as_well_but_not_both(capsys, monkeypatch) -> None:
    versions = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.31.0" if name == "onnxruntime-gpu" else versions(name))
    assert "both installed" in told(capsys, "--needs", "serve", code=1)["ONNX Runtime"]["said"]

    def only_gpu(name: str) -> str:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "1.31.0" if name == "onnxruntime-gpu" else versions(name)

    monkeypatch.setattr(metadata, "version", only_gpu)
    findings = told(capsys, "--needs", "serve")
    assert "ONNX Runtime" not in findings
    assert findings["packages to serve"]["status"] == "ok"


def test_a_broken_package_is_a_line_and_no_traceback(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = told(capsys, "--needs", "serve", code=1)["ONNX Runtime's providers"]
    assert "cannot be loaded" in found["said"]


def test_a_gpu_that_nothing_uses_is_told(capsys, monkeypatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = told(capsys)
    assert "PyTorch finds no GPU" in findings["devices"]["said"]
    assert findings["devices"]["status"] == "warning"


def test_a_port_in_use_is_told(capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = told(capsys, "--port", str(taken.getsockname()[1]))["port"]
    assert found["status"] == "warning"
    assert "cannot be used" in found["said"]
    assert told(capsys, "--port", "99999")["port"]["status"] == "warning"


@pytest.mark.parametrize(("free", "status", "code"), [(10**7, "missing", 1), (10**9, "warning", 0), (10**11, "ok", 0)])
def test_a_full_disk_is_told(capsys, monkeypatch, free: int, status: str, code: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, free))
    assert told(capsys, code=code)["disk here"]["status"] == status


def test_a_cache_that_cannot_be_looked_into_is_a_line_and_no_end(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("a" * 300)))
    findings = told(capsys)
    assert (findings["data sets"]["status"], findings["port"]["name"]) == ("warning", "port")
    assert "File name too long" in findings["data sets"]["said"]
    assert "XDG_CACHE_HOME" in findings["data sets"]["todo"]
    assert str(tmp_path) in findings["disk of the cache"]["said"]


def test_data_sets_are_found_where_they_lie(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "--data cifar10" in told(capsys)["data set cifar10"]["todo"]
    (tmp_path / "cutaway" / "cifar-10-batches-py").mkdir(parents=True)
    assert told(capsys)["data set cifar10"]["said"] == str(tmp_path / "cutaway" / "cifar-10-batches-py")


def test_requirements_are_read_as_pip_writes_them() -> None:
    assert _parsed('torch>=2.13; extra == "train"') == ("torch", "2.13", "train")
    assert _parsed("numpy>=2.0") == ("numpy", "2.0", "")
    assert _numbers("2.13.0+cu126") == (2, 13) < _numbers("2.13.1") < _numbers("2.14")
    assert _numbers("1.31.0rc1") == (1, 31)
