"""The README's commands as they stand, each in a process of its own, on real pictures.

Most are forks of one process that has imported everything; what is signalled or served is started as people start it.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway.datasets import load

TRAIN = (
    "cutaway train --data fashion-mnist-sample --network fashion-cnn-bn --epochs 4 --batch-size 64 --lr 0.01 --seed 7 "
    "--out runs/first"
)


@pytest.fixture(autouse=True, scope="module")
def forking(forked):
    """What `cutaway` asks."""
    FORKED.append(forked)
    yield
    FORKED.clear()


FORKED = []


def cutaway(line, folder):
    command, *words = shlex.split(line)
    assert command == "cutaway"
    return FORKED[0](words, folder)


def done(line, folder):
    result = cutaway(line, folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a trained and exported run, and two pictures from the test split."""
    folder = tmp_path_factory.mktemp("work")
    test = load("fashion-mnist-sample").test
    for name, label in (("shirt", 6), ("boot", 9)):
        index = int(np.flatnonzero(test.labels == label)[0])
        Image.fromarray(test.images[index][:, :, 0]).save(folder / f"{name}.png")
    said = done(TRAIN, folder)
    assert "test accuracy" in said
    assert "macro F1 0." in said
    assert said[said.index("worst classes") :].splitlines()[1].split()[0] in ("Shirt", "Coat", "Pullover")
    done("cutaway export runs/first --out first.onnx", folder)
    return folder


def test_training_is_logged_and_good(folder):
    rows = (folder / "runs/first/metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,lr,train_loss,train_accuracy,valid_loss,valid_accuracy")
    assert len(rows) == 5
    final = json.loads((folder / "runs/first/metrics.jsonl").read_text().splitlines()[-1])
    assert final["kind"] == "final"
    assert final["test_accuracy"] > 0.8
    assert list((folder / "runs/first/tensorboard").iterdir())


def test_tensorboard_holds_what_was_promised(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "runs/first/tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert {"loss/train", "loss/valid", "accuracy/train", "accuracy/valid", "step/lr"} <= set(tags["scalars"])
    assert {"weights/conv1/weight", "gradients/out/bias"} <= set(tags["histograms"])
    assert tags["images"] == ["pictures/train"]
    assert tags["graph"]
    assert [event.step for event in events.Scalars("accuracy/valid")] == [85, 170, 255, 340]
    assert "_hparams_/session_start_info" in events.summary_metadata
    (classes,), (confusion,) = (events.Tensors(f"test/{name}/text_summary") for name in ("classes", "confusion"))
    told = json.loads((folder / "runs/first/metrics-test.json").read_text())
    boot = told["classes"][9]
    f1, share = f"{boot['f1']:.3f}", f"{boot['precision']:.3f} | {boot['recall']:.3f}"
    assert f"| Ankle boot | 100 | {share} | {f1} |" in classes.tensor_proto.string_val[0].decode()
    row = " | ".join(map(str, told["confusion"][9]))
    assert f"| Ankle boot | {row} |" in confusion.tensor_proto.string_val[0].decode()


def test_training_again_has_nothing_left_to_do(folder):
    before = sorted(path.name for path in (folder / "runs/first/checkpoints").iterdir())
    assert "has all of its 4 epochs" in done(TRAIN, folder)
    assert sorted(path.name for path in (folder / "runs/first/checkpoints").iterdir()) == before


def test_layers(folder):
    shown = done("cutaway inspect layers runs/first", folder)
    assert "conv2" in shown
    assert "33,250" in shown
    rows = json.loads(done("cutaway inspect layers runs/first --json", folder))
    assert rows


def test_cam(folder):
    shown = done("cutaway inspect cam runs/first --images shirt.png --out maps/", folder)
    (made,) = (folder / "maps").iterdir()
    assert f"maps/{made.name}: " in shown
    assert np.asarray(Image.open(made)).shape[2] == 3
    told = json.loads(done("cutaway inspect cam runs/first --images shirt.png boot.png --label Bag --json", folder))
    assert [entry["label"] for entry in told] == ["Bag", "Bag"]
    wrong = cutaway("cutaway inspect cam runs/first --images shirt.png --label Sock", folder)
    assert wrong.returncode == 1
    assert "Ankle boot" in wrong.stderr


def test_features_and_histograms(folder):
    done("cutaway inspect features runs/first --image shirt.png --out features/", folder)
    assert list((folder / "features").glob("*.png"))
    done("cutaway inspect histograms runs/first --out histograms/", folder)
    assert list((folder / "histograms").glob("*.png"))


def test_report(folder):
    assert "report" in done("cutaway inspect report runs/first", folder)
    page = (folder / "runs/first/report/index.html").read_text()
    assert "Ankle boot" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_predict(folder):
    told = json.loads(done("cutaway predict first.onnx shirt.png boot.png --json", folder))
    assert [entry["picture"] for entry in told] == ["shirt.png", "boot.png"]
    assert told[1]["top"][0]["label"] == "Ankle boot"
    lines = done("cutaway predict first.onnx *.png --csv", folder).splitlines()
    assert lines[0] == "picture,label,probability"
    assert len(lines) == 3


def test_checkpoints_list(folder):
    assert "best" in done("cutaway checkpoints list runs/first", folder)
    told = json.loads(done("cutaway checkpoints list runs/first --json", folder))
    assert [bundle["epoch"] for bundle in told["bundles"]][-1] == 4
    assert sum(bundle["best"] for bundle in told["bundles"]) == 1
    assert 0 < told["bundles"][-1]["metrics"]["valid_ece"] < 1
    assert "valid_ece" not in done("cutaway checkpoints list runs/first", folder)
    assert "whole" in done("cutaway checkpoints verify runs/first", folder)


def test_an_export_s_figures_as_json(folder):
    told = json.loads(done("cutaway export runs/first --out second.onnx --json", folder))
    assert told["probability_difference"] < 1e-5
    assert (folder / "second.onnx").read_bytes() == (folder / "first.onnx").read_bytes()


def test_an_export_is_compared_again(folder):
    said = done("cutaway verify first.onnx runs/first --provider cpu", folder)
    assert "verified against PyTorch on 15 pictures" in said


def test_serve_says_where_and_ends_with_0_on_sigterm(folder):
    words = [sys.executable, "-u", "-m", "cutaway", "serve", "first.onnx", "--port", "0", "--no-page"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line).group()
        with urllib.request.urlopen(f"{url}/v1/model") as answer:
            assert "Ankle boot" in json.load(answer)["classes"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@pytest.mark.slow
def test_a_signal_while_training_saves_and_ends_with_143(tmp_path):
    words = [sys.executable, "-u", "-m", *TRAIN.split()]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("epoch 1/4")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in said
    again = cutaway(TRAIN, tmp_path)
    assert again.returncode == 0
    assert "Going on with runs/first after step" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif("CI" in os.environ, reason=".ci/run looks for the same after the demo of the wheel")
def test_the_demo_ends_with_everything_made(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "cutaway", "demo", "--no-serve", "--data", "sample"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ,
    )
    assert result.returncode == 0, result.stderr
    assert "killed with SIGKILL" in result.stdout
    assert "byte for byte" in result.stdout
    assert "1000 of 1000 test pictures get the same class" in result.stdout
    assert re.search(r"conv2 .* 1,812 ", result.stdout)
    for made in ("run/export/model.onnx", "run/report/index.html", "pictures/cam/test-0--*.png"):
        (file,) = (tmp_path / "demo").glob(made)
        assert file.stat().st_size > 1000
    for folder in ("features", "histograms"):
        assert list((tmp_path / "demo" / "pictures" / folder).glob("*.png"))


def test_the_python_of_the_docs_runs_as_it_stands(folder):
    page = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    assert "torch.Size([8, 6, 24, 24])" in ran.stdout
