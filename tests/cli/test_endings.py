"""How a command ends when the system refuses, a signal comes, or an option is out of range."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway import cli
from cutaway.cli import main, run_data
from cutaway.serve.writing import whole_or_nothing

EXPORT_THAT_WAITS = """
import sys, time
from cutaway.cli import main, run_data
from cutaway.serve.export.reference import Held

def verify(held, temporary, *rest, **options):
    print("verifying", temporary.name, flush=True)
    time.sleep(100)

Held.verify = verify
sys.exit(main(["export", "run", "--out", "out/model.onnx"]))
"""


@pytest.fixture
def run(convolutional_run):
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("x.png")
    return convolutional_run


def export_until_it_verifies():
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT_THAT_WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("verifying .tmp-")
    assert list(Path("out").iterdir())
    return process


@pytest.mark.slow
def test_sigterm_ends_an_export_with_143_and_leaves_no_file(run):
    with export_until_it_verifies() as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "cutaway: Stopped."
    assert "Traceback" not in said
    assert list(Path("out").iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_export_left_the_next_one_removes(run):
    with export_until_it_verifies() as process:
        process.kill()
    assert len(list(Path("out").iterdir())) == 1
    with whole_or_nothing(Path("out/model.onnx"), b""):
        pass
    assert [path.name for path in Path("out").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("words", "is_ours"), [(["export"], True), (["inspect", "cam"], True), (["train"], False), (["serve"], False)]
)
def test_commands_that_end_in_an_order_of_their_own_keep_it(words, is_ours, monkeypatch):
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "_run", lambda arguments: seen.append(signal.getsignal(signal.SIGTERM)) or 0)
    assert main(words) == 0
    assert (seen[0] is not before) == is_ours
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_a_command_installs_wins(monkeypatch):
    came = []

    def command(arguments):
        signal.signal(signal.SIGTERM, lambda signum, frame: came.append(signum))
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(cli, "_run", command)
    assert main(["demo"]) == 0
    assert came == [signal.SIGTERM]


def test_ctrl_c_still_ends_with_130(monkeypatch, capsys):
    def command(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", command)
    assert main(["export"]) == 128 + signal.SIGINT


WRITERS = {
    "histograms": ["inspect", "histograms", "run", "--out"],
    "cam": ["inspect", "cam", "run", "--images", "x.png", "--out"],
    "features": ["inspect", "features", "run", "--image", "x.png", "--out"],
    "report": ["inspect", "report", "run", "--out"],
    "export": ["export", "run", "--out"],
}


@pytest.mark.parametrize(
    ("command", "place"),
    [(command, "file/below") for command in WRITERS]
    + [(command, place) for command in WRITERS if command != "export" for place in ("file", "/proc/nowhere/below")],
)
def test_a_place_that_cannot_be_written_to_is_a_sentence_with_the_path(command, place, run, capsys):
    Path("file").write_text("here before")
    if command == "report":
        place += "/report.html"
    elif command == "export":
        place = f"{place}/model.onnx"
    assert main([*WRITERS[command], place]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert place.split("/below")[0].removesuffix("/report.html") in said
    assert any(why in said for why in ("File exists", "Not a directory", "No such file", "Permission denied"))
    assert Path("file").read_text() == "here before"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_place_is_a_sentence(run, capsys):
    Path("closed").mkdir(mode=0o500)
    assert main(["inspect", "histograms", "run", "--out", "closed/new"]) == 1
    assert "closed/new: Permission denied" in capsys.readouterr().err


def test_a_refusal_of_the_system_names_the_target_of_a_renaming(monkeypatch, capsys):
    def command(arguments):
        raise OSError(28, "No space left on device", "temporary", None, "model.onnx")

    monkeypatch.setattr(cli, "_run", command)
    assert main(["inspect", "report"]) == 1
    assert capsys.readouterr().err == "cutaway: error: model.onnx: No space left on device.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_a_stdout_that_is_full_is_a_sentence():
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "cutaway", "--version"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "cutaway: error: No space left on device.\n")


def test_what_is_nested_too_deeply_is_a_sentence(monkeypatch, capsys):
    def command(arguments):
        command(arguments)

    monkeypatch.setattr(cli, "_run", command)
    assert main(["checkpoints"]) == 1
    assert "nested too deeply" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "layers", "nowhere", "--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["inspect", "layers", "nowhere", "--batch-size", "-3"], "--batch-size must be at least 1, not -3"),
        (["predict", "nowhere", "x.png", "--top-k", "0"], "--top-k must be at least 1, not 0"),
        (["serve", "nowhere", "--port", "70000"], "--port must lie between 0 and 65535, not 70000"),
        (["serve", "nowhere", "--port", "-1"], "--port must lie between 0 and 65535, not -1"),
        (["inspect", "cam", "nowhere", "--images", "x", "--opacity", "1.5"], "--opacity must lie between 0 and 1"),
        (["inspect", "cam", "nowhere", "--images", "x", "--opacity", "nan"], "--opacity must lie between 0 and 1"),
    ],
)
def test_an_option_out_of_range_is_refused_before_anything_is_loaded(words, said, capsys):
    assert main(words) == 1
    assert said in capsys.readouterr().err


def test_an_export_says_how_many_pictures_it_was_verified_on(run, capsys, monkeypatch):
    """Four pictures are four, however often they are compared."""
    find = run_data.data_of

    def of_four(*arguments, **options):
        found = find(*arguments, **options)
        return replace(found, test=found.test.take(range(4)))

    monkeypatch.setattr(run_data, "data_of", of_four)
    assert main(["export", "run", "--out", "a.onnx", "--no-explain"]) == 0
    assert "verified against PyTorch on 4 pictures in 15 comparisons" in capsys.readouterr().out
    monkeypatch.setattr(run_data, "data_of", find)
    assert main(["export", "run", "--out", "b.onnx", "--no-explain", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["comparisons"]) == (15, 15)
