"""What is imported when: `cutaway --help` stays light, serving does without PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, json, cutaway; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    imported = set(json.loads(run_fresh(program)))
    assert "cutaway" in imported
    assert imported.isdisjoint(HEAVY)


RUN_ALL_AND_LIST_HEAVY_MODULES = """
import contextlib, io, json, sys
from cutaway.cli import main
commands, heavy = map(json.loads, sys.argv[1:])
found = {}
for words in commands:
    code = None
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main([*words.split(), "--help"])
        except SystemExit as end:
            code = end.code
    found[words] = [code or 0, sorted({name.partition(".")[0] for name in sys.modules} & set(heavy))]
print(json.dumps(found))
"""


def test_help_imports_nothing_heavy() -> None:
    # One after the other in one process: what a command imports shows from there on.
    commands = ["", *COMMANDS]
    found = json.loads(run_fresh(RUN_ALL_AND_LIST_HEAVY_MODULES, json.dumps(commands), json.dumps(sorted(HEAVY))))
    assert found == {words: [0, []] for words in commands}


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
