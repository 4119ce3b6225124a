"""What is imported when: `cutaway --help` stays light, serving does without PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cutaway.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]

# Whatever takes long to import or belongs to an extra; none of it may be needed to say how a command is used.
HEAVY = [
    *("torch", "torchvision", "safetensors", "tensorboard", "torchmetrics"),
    *("onnx", "onnxscript", "onnxruntime"),
    *("gradio", "fastapi", "uvicorn", "ray"),
    *("matplotlib", "pandas", "scipy", "sklearn", "skimage"),
]


def run_fresh(program: str, *arguments: str) -> str:
    """Run a program in a new interpreter and give back the last line that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


RUN_AND_LIST_MODULES = """
import json, runpy, sys
sys.argv = ["cutaway", *sys.argv[1:]]
code = None
try:
    runpy.run_module("cutaway", run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
sys.stdout.flush()
print()
print(json.dumps({"code": code, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, json, cutaway; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    imported = set(json.loads(run_fresh(program)))
    assert "cutaway" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], *([*words.split(), "--help"] for words in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    outcome = json.loads(run_fresh(RUN_AND_LIST_MODULES, *arguments))
    assert outcome["code"] in (0, None)
    assert "cutaway" in outcome["modules"]
    assert set(outcome["modules"]).isdisjoint(HEAVY)


def test_help_names_every_command() -> None:
    assert {"train", "inspect", "export", "predict", "serve", "checkpoints", "demo"} <= {w.split()[0] for w in COMMANDS}
    done = subprocess.run(
        [sys.executable, "-m", "cutaway", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [words for words in COMMANDS if words not in done.stdout] == []


IMPORT_WITHOUT_TORCH = """
import importlib, json, sys
for blocked in ("torch", "torchvision", "safetensors"):
    sys.modules[blocked] = None
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = repr(error)
print()
print(json.dumps(failed))
"""


def torch_free_modules() -> list[str]:
    """The modules that import-linter's contract names, so that both checks guard the same list."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    contract = next(contract for contract in contracts if contract["name"] == "Serving needs no PyTorch")
    return list(contract["source_modules"])


def test_serving_is_importable_where_torch_is_not() -> None:
    modules = torch_free_modules()
    assert {"cutaway.serve.classifier", "cutaway.serve.api", "cutaway.serve.page", "cutaway.images"} <= set(modules)
    rooms = ["cutaway", "cutaway.serve", "cutaway.preprocessing", "cutaway.cli"]
    assert json.loads(run_fresh(IMPORT_WITHOUT_TORCH, *modules, *rooms)) == {}


def test_every_module_of_serve_but_the_exporter_is_held_to_it() -> None:
    modules = {f"cutaway.serve.{file.stem}" for file in (ROOT / "cutaway" / "serve").glob("[!_]*.py")}
    assert modules <= set(torch_free_modules())


def test_the_block_on_torch_blocks() -> None:
    failed = json.loads(run_fresh(IMPORT_WITHOUT_TORCH, "cutaway.preprocessing.tensors"))
    assert list(failed) == ["cutaway.preprocessing.tensors"]
