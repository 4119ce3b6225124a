"""tools/setup-venv: installs once, tells what is missing, and never takes half an install for a whole one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_setup(folder: Path, *, path: str, python: str = "") -> subprocess.CompletedProcess[str]:
    """Run a copy of the script in a small project of its own, with a stand-in for pip; nothing is fetched."""
    return subprocess.run(
        ["bash", str(folder / "tools" / "setup-venv"), ".venv"],
        env={**os.environ, "PATH": path, "PYTHON": python},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )


def write_script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


# Answers the script's questions as a good Python would; `-m venv` copies it into the environment, `-m pip` is counted.
STAND_IN_PYTHON = """
here=$(dirname "$0")
case "$*" in
    "--version") echo "Python 3.12.0" ;;
    *print*) echo 3.12 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*)
        echo called >>"$here/../../pip-calls"
        echo "Downloading torch-2.15.0-cp312-none-any.whl (539.0 MB)"
        [ ! -e "$here/../../pip-is-killed" ] || kill -KILL 0
        [ ! -e "$here/../../pip-fails" ] || { echo "ERROR: no route to the registry"; exit 1; } ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "setup-venv").write_bytes((ROOT / "tools" / "setup-venv").read_bytes())
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\n")
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        write_script(tmp_path / "old" / name, "exit 1")
    write_script(tmp_path / "good" / "python3.12", STAND_IN_PYTHON)
    return tmp_path


def search_path(project: Path, *folders: str) -> str:
    return os.pathsep.join([*(str(project / folder) for folder in folders), "/usr/bin", "/bin"])


def pip_calls(project: Path) -> int:
    calls = project / "pip-calls"
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def test_setup_installs_once(project: Path) -> None:
    first = run_setup(project, path=search_path(project, "good"))
    assert first.returncode == 0, first.stderr
    assert "downloading torch, 539 MB" in first.stdout
    second = run_setup(project, path=search_path(project, "good"))
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert pip_calls(project) == 1


def test_setup_runs_again_when_the_versions_changed_but_not_when_only_touched(project: Path) -> None:
    path = search_path(project, "good")
    run_setup(project, path=path)
    os.utime(project / "constraints.txt")
    run_setup(project, path=path)
    assert pip_calls(project) == 1
    (project / "constraints.txt").write_text("numpy==2.4.7\n")
    assert run_setup(project, path=path).returncode == 0
    assert pip_calls(project) == 2


@pytest.mark.parametrize("fate", ["pip-fails", "pip-is-killed"])
def test_an_unfinished_install_is_begun_afresh(project: Path, fate: str) -> None:
    path = search_path(project, "good")
    (project / fate).touch()
    failed = run_setup(project, path=path)
    assert failed.returncode != 0
    assert "no route to the registry" in failed.stderr or fate == "pip-is-killed"
    (project / fate).unlink()
    (project / ".venv" / "half-installed").touch()
    again = run_setup(project, path=path)
    assert again.returncode == 0
    assert "did not finish" in again.stdout
    assert not (project / ".venv" / "half-installed").exists()
    assert run_setup(project, path=path).stdout == ""


def test_a_persons_own_environment_is_kept(project: Path) -> None:
    write_script(project / ".venv" / "bin" / "python", STAND_IN_PYTHON)
    (project / ".venv" / "theirs").touch()
    assert run_setup(project, path=search_path(project, "good")).returncode == 0
    assert (project / ".venv" / "theirs").exists()


def test_no_python_is_a_sentence(project: Path) -> None:
    told = run_setup(project, path=search_path(project, "old"))
    assert told.returncode == 1
    assert "no Python from 3.11 to 3.13 was found" in told.stderr
    assert not (project / ".venv").exists()


def test_a_python_without_venv_is_told_with_the_package_to_install(project: Path) -> None:
    write_script(
        project / "old" / "python3.12", 'case "$*" in *ensurepip*) exit 1 ;; *print*) echo 3.12 ;; *) exit 0 ;; esac'
    )
    told = run_setup(project, path=search_path(project, "old"))
    assert told.returncode == 1
    assert "apt-get install python3.12-venv" in told.stderr


def test_a_named_python_that_will_not_do_is_named_back(project: Path) -> None:
    told = run_setup(project, path=search_path(project, "good"), python=str(project / "old" / "python3"))
    assert told.returncode == 1
    assert "old/python3 is no Python from 3.11 to 3.13" in told.stderr
