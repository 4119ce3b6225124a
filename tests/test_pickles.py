"""Which code may write or read a pickle: what is read could run a stranger's code, what is written asks others to."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cutaway"
# Only for the error that torch raises over a damaged file.
NAMED = {"networks/pretrained.py": {"UnpicklingError"}}
WRITES = {"checkpoints/foreign.py": "to_pth"}
PICKLERS = {
    "cloudpickle",
    "copyreg",
    "dill",
    "jsonpickle",
    "joblib",
    "marshal",
    "pandas",
    "pickle",
    "_pickle",
    "shelve",
}
TORCH_SERIALIZATION = {"get_unsafe_globals_in_checkpoint"}
# What else keeps Python objects in a file, or reads a file that may hold some.
FORBIDDEN = {
    *("torch.export.load", "torch.export.save", "torch.hub.load", "torch.hub.load_state_dict_from_url"),
    *("torch.jit.load", "torch.jit.save", "torch.package", "numpy.fromfile", "numpy.memmap"),
    *("multiprocessing.reduction", "torch.distributed.checkpoint"),
}


def faults(source, file):
    """A sentence for each line that breaks the rule."""
    tree = ast.parse(source)
    names, found, told = {}, [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else (alias.name.partition(".")[0])
                )
                if alias.name.partition(".")[0] in PICKLERS - ({"pickle"} if file in NAMED else set()):
                    found.append(f"{file}:{node.lineno} imports {alias.name}")
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            if node.module.partition(".")[0] in PICKLERS:
                found.append(f"{file}:{node.lineno} imports from {node.module}")
    within = {
        id(inner): outer.name for outer in tree.body if isinstance(outer, ast.FunctionDef) for inner in ast.walk(outer)
    }

    def dotted(node):
        if isinstance(node, ast.Attribute):
            inner = dotted(node.value)
            return inner and f"{inner}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else None

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called, given = dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
            last = node.func.attr if isinstance(node.func, ast.Attribute) else called
            told.add(id(node.func))
            if called == "torch.load" or last == "get_state_dict":
                if not _is(given.get("weights_only"), True):
                    found.append(f"{file}:{node.lineno} {called} without weights_only=True")
            elif called in ("numpy.load", "numpy.save"):
                if not _is(given.get("allow_pickle"), False):
                    found.append(f"{file}:{node.lineno} {called} without allow_pickle=False")
            elif called == "torch.save":
                if within.get(id(node)) != WRITES.get(file, ""):
                    found.append(f"{file}:{node.lineno} torch.save")
            else:
                told.discard(id(node.func))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute) or id(node) in told:
            continue
        named = dotted(node) or ""
        last = named.rpartition(".")[2]
        if (
            named in FORBIDDEN
            or named in ("torch.load", "torch.save", "numpy.load", "numpy.save")
            or (named.startswith("pickle.") and last not in NAMED.get(file, ()))
            or (named.startswith("torch.serialization.") and last not in TORCH_SERIALIZATION)
            or (isinstance(node, ast.Attribute) and last in ("to_pickle", "read_pickle", "tofile"))
        ):
            found.append(f"{file}:{node.lineno} {named or last}")
    return found


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def test_only_one_function_writes_a_pickle_and_none_is_read_that_could_run_code():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    sources = {file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8") for file in files}
    assert [fault for name, source in sources.items() for fault in faults(source, name)] == []
    writing = {name for name, source in sources.items() if "torch.save(" in "".join(_code(source))}
    assert writing == set(WRITES)


def _code(source):
    """Its calls, without what strings and comments say."""
    return [f"{ast.unparse(node.func)}(" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import torch as t\nt.load('x', weights_only=bool(1))",
        "from torch import load\nload('x')",
        "import torch\nread = torch.load",
        "import torch\ntorch.save({}, 'x')",
        "from torch import save as keep\nkeep({}, 'x')",
        "import torch\ntorch.serialization.add_safe_globals([dict])",
        "from torch.serialization import safe_globals\nsafe_globals([dict])",
        "import torch\ntorch.jit.load('x')",
        "import torch.distributed.checkpoint as dcp\ndcp.save({})",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.save('x', 1)",
        "import pickle",
        "from pickle import loads",
        "import joblib",
        "def f(weights): return weights.get_state_dict(progress=True)",
        "def f(frame): frame.to_pickle('x')",
    ],
)
def test_the_rule_notices(source):
    assert faults(source, "elsewhere.py")


def test_the_rule_holds_for_the_rest_of_the_files_that_it_excepts():
    assert faults("import torch\ndef read(): torch.save({}, 'x')", "checkpoints/foreign.py")
    assert faults("import pickle\npickle.loads(b'')", "networks/pretrained.py")
    assert not faults("import torch\ndef to_pth(): torch.save({}, 'x')", "checkpoints/foreign.py")
