"""`cutaway inspect report` on bundles of untrained networks."""

import html
import re
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cutaway.checkpoints import restore, write_bundle
from cutaway.checkpoints.runs import find
from cutaway.cli import main


def text_of(file):
    without = re.sub(r"<style.*?</style>|<[^>]+>", " ", Path(file).read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(without).split())


def another(run):
    """A copy of a run whose bundle has other weights."""
    shutil.copytree(run, "other")
    stored = find("other")
    shutil.rmtree(stored.path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tensors = {name: torch.randn_like(value) for name, value in restore(run).network.state_dict().items()}
    write_bundle(stored.path, stored.manifest, {"model": tensors})
    return "other"


def test_another_bundle_the_memory_of_training_and_the_graph_are_shown(convolutional_run, capsys):
    sections = ["comparison", "layers", "kernels"]
    words = ["--against", another(convolutional_run), "--sections", *sections, "--out", "told.html", "--tensorboard"]
    assert main(["inspect", "report", str(convolutional_run), *words]) == 0, capsys.readouterr().err
    assert f"tensorboard --logdir {convolutional_run}" in capsys.readouterr().out
    text = text_of("told.html")
    assert re.search(r"by another network, lenet5 of epoch \d+, step \d+, bundle [0-9a-f]{12}: it recognises", text)
    assert "McNemar's exact test" in text
    assert re.search(r"Training with \w+ at a batch size of \d+ keeps about", text)
    (file,) = Path(convolutional_run, "tensorboard").glob("*.inspect")
    events = EventAccumulator(str(file))
    events.Reload()
    assert {"inspect/first kernels", "inspect/mended against another network"} <= set(events.Tags()["images"])
    assert events.Tags()["graph"]


@pytest.mark.parametrize(
    ("words", "said"), [("--against nowhere", "nowhere"), ("--sections scors", "no section 'scors'")]
)
def test_what_is_not_there_is_told(words, said, convolutional_run, capsys):
    assert main(["inspect", "report", str(convolutional_run), *words.split()]) == 1
    assert said in capsys.readouterr().err
