"""What is installed, by which names, and what lies in the repository."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cutaway

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
METADATA = PROJECT["project"]
EXTRAS = METADATA["optional-dependencies"]


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def pins() -> dict[str, Version]:
    return {
        canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in constraint_lines())
    }


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# --- constraints.txt and the extras


def test_constraints_are_plain_sorted_and_unique() -> None:
    lines = constraint_lines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][a-z0-9.!]*", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


def test_every_extra_that_people_are_told_of_exists() -> None:
    assert {"train", "inspect", "export", "serve", "serve-gpu", "cluster", "all", "dev"} == set(EXTRAS)


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_direct_dependencies_are_pinned_within_their_ranges(extra: str) -> None:
    pinned = pins()
    for text in EXTRAS[extra] if extra else METADATA["dependencies"]:
        requirement = Requirement(text)
        if requirement.name == METADATA["name"]:
            assert requirement.extras <= set(EXTRAS)
            continue
        assert requirement.name in pinned, f"{requirement.name} has no line in constraints.txt"
        assert pinned[requirement.name] in requirement.specifier, text


def test_indirect_dependencies_are_pinned() -> None:
    """Follows what is installed here from the extras downwards: nothing is left to the day of the installation."""
    pinned = pins()
    waiting = [Requirement(text) for extra in ("train", "inspect", "export", "serve", "dev") for text in EXTRAS[extra]]
    waiting += [Requirement(text) for text in METADATA["dependencies"]]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if f"{name}{sorted(requirement.extras)}" in seen:
            continue
        seen.add(f"{name}{sorted(requirement.extras)}")
        assert name in pinned, f"{name} has no line in constraints.txt"
        for text in importlib.metadata.requires(name) or []:
            further = Requirement(text)
            extras = ["", *requirement.extras]
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    assert len(seen) > 80


def test_the_bare_package_is_small_and_torch_free() -> None:
    names = {Requirement(text).name for text in METADATA["dependencies"]}
    assert names.isdisjoint({"torch", "torchvision", "onnxruntime", "gradio", "matplotlib", "safetensors"})
    assert not any(Requirement(text).name.startswith("torch") for text in EXTRAS["serve"] + EXTRAS["serve-gpu"])


def test_serve_and_serve_gpu_differ_only_in_the_runtime() -> None:
    """onnxruntime and onnxruntime-gpu write the same files: nobody may get both."""
    assert [text.replace("onnxruntime-gpu", "onnxruntime") for text in EXTRAS["serve-gpu"]] == EXTRAS["serve"]
    assert "serve-gpu" not in "".join(EXTRAS["all"])


# --- the wheel


def test_one_version() -> None:
    assert cutaway.__version__ == METADATA["version"]
    assert f"## {METADATA['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_folder_with_code_is_a_package() -> None:
    """`packages.find` leaves out folders without `__init__.py`, in silence."""
    folders = {file.parent for file in (ROOT / "cutaway").rglob("*.py")}
    assert [folder.name for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_data_file_of_the_package_goes_into_the_wheel() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["cutaway"]
    packed = {file for pattern in patterns for file in (ROOT / "cutaway").glob(pattern)}
    data = [file for file in tracked_files() if file.is_relative_to(ROOT / "cutaway") and file.suffix != ".py"]
    assert data
    assert [str(file.relative_to(ROOT)) for file in data if file not in packed] == []


# --- make


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_make_help_lists_every_target() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) +\S", told, flags=re.MULTILINE)) == make_targets()
    assert {"help", "demo", "test", "lint", "bench"} <= make_targets()


def test_make_demo_runs_the_demo_with_the_words_that_it_is_given() -> None:
    words = ["make", "--no-print-directory", "--dry-run", "demo", "DEMO_ARGS=--no-serve --out here"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    told = subprocess.run(words, cwd=ROOT, env=alone, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == ["PYTHON='' tools/setup-venv .venv", ".venv/bin/python -m cutaway demo --no-serve --out here"]


def test_make_commands_in_the_readme_exist() -> None:
    fenced = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    named = {target for block in fenced for target in re.findall(r"^make ([a-z-]+)", block, flags=re.MULTILINE)}
    assert {"demo", "test"} <= named <= make_targets()


def test_setup_knows_the_versions_that_the_package_supports() -> None:
    script = (ROOT / "tools" / "setup-venv").read_text()
    assert METADATA["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info < (3, 14)" in script
    assert (3, 11) <= sys.version_info < (3, 14)


# --- the repository

# Put together here so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile("|".join(rf"/{name}/" for name in ("work", "farm", "root", r"home/[a-z]+", "Users")))
PLACEHOLDERS = re.compile(r"/home/(user|app|cutaway)/")
REGISTRY_HOSTS = re.compile(
    "|".join((r"pypi\." + "org", "python" + "hosted", r"registry\." + "npmjs", r"deb\.debian\." + "org"))
)


def test_no_machine_path_and_no_registry_host_in_the_repository() -> None:
    found = []
    for file in tracked_files():
        content = file.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
            if MACHINE_PATHS.search(PLACEHOLDERS.sub("", line)) or REGISTRY_HOSTS.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_large_file_in_the_repository() -> None:
    assert [file.name for file in tracked_files() if file.stat().st_size > 4 * 2**20] == []


def test_pre_commit_fetches_nothing() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"^ *- repo: *(\S+)", config, flags=re.MULTILINE)) == {"local"}
    assert set(re.findall(r"^ *language: *(\S+)", config, flags=re.MULTILINE)) == {"system"}
