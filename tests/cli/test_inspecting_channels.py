"""`cutaway inspect channels`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cutaway.cli import main, run_data
from cutaway.cli.inspecting.channels import _row
from cutaway.datasets import load
from cutaway.inspect import channel_activity, channels


@pytest.mark.usefixtures("convolutional_run")
def test_channels_are_told_in_a_table_and_shown_on_a_sheet_a_layer(capsys) -> None:
    words = ["inspect", "channels", "run", "--data", "fashion-mnist-sample", "--top", "3"]
    assert main([*words, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["num_pictures"] for entry in entries] == [entries[0]["num_pictures"]] * len(entries)
    assert all(len(entry["top"]) == entry["num_channels"] for entry in entries)
    assert all(len(places) == 3 for entry in entries for places in entry["top"])
    assert sorted(str(file) for file in Path("channels").iterdir()) == [entry["sheet"] for entry in entries]
    assert main([*words, "--layers", entries[0]["layer"], "--channels", "0", "--out", "one"]) == 0
    shown = capsys.readouterr().out
    assert entries[0]["layer"] in shown
    assert "dead" in shown
    assert len(list(Path("one").iterdir())) == 1


@pytest.mark.usefixtures("convolutional_run")
def test_wrong_names_are_told_in_words(capsys) -> None:
    words = ["inspect", "channels", "run", "--data", "fashion-mnist-sample"]
    assert main([*words, "--layers", "nowhere"]) == 1
    assert "No layer 'nowhere'" in capsys.readouterr().err
    assert main([*words, "--channels", "999"]) == 1
    assert "no channel 999" in capsys.readouterr().err
    assert main([*words, "--top", "-1"]) == 1
    assert main([*words, "--device", "cuda:99"]) == 1
    assert "no device 'cuda:99'" in capsys.readouterr().err
    assert not Path("channels").exists()


def test_saturated_channels_are_named_with_their_share() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sigmoid())
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[0] = 9
        network[0].bias.zero_()
    pictures = torch.ones(50, 1, 1, 1)
    pictures[0] = 0
    (found,) = channel_activity(network, [pictures])
    assert _row(found) == ("1", "sigmoid", 2, "0.0%", "-", "1: 1", "1: 0 (98%)", "-")


@pytest.mark.usefixtures("convolutional_run")
def test_all_splits_are_looked_at_and_it_is_told_how_sure_dead_is(capsys, monkeypatch) -> None:
    whole = load("fashion-mnist-sample")
    few = {
        name: replace(split, images=split.images[:count], labels=split.labels[:count])
        for name, split, count in (("train", whole.train, 5), ("valid", whole.valid, 3), ("test", whole.test, 4))
    }
    monkeypatch.setattr(run_data, "data_of", lambda *_, **__: replace(whole, **few))
    words = ["inspect", "channels", "run", "--layers", "relu2"]
    assert main([*words, "--split", "all", "--json", "--top", "12"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["num_pictures"] == 12
    assert sorted(entry["top"][0]) == list(range(12))
    assert entry["awake_at_most"] == pytest.approx(1 - 0.05 ** (1 / 12))
    # A sheet shows pictures of all of them: at 5 is the first of the validation split.
    assert Path(entry["sheet"]).exists()
    monkeypatch.setattr(channels, "channel_activity", lambda *args, **kwargs: (deadened(channel_activity, args),))
    assert main([*words, "--split", "all", "--top", "0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "12 pictures of fashion-mnist-sample, all splits" in shown
    assert (
        "Few pictures to call a channel dead by: one that is zero on all 12 may still answer to up to 22 % of" in shown
    )


def deadened(look, args):
    (found,) = look(*args[:2], args[2])
    return replace(found, silent=torch.ones_like(found.silent))
