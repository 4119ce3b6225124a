"""Every example, with settings that are quick, and what it tells; most in forks of a process that has imported all."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
QUICK = {
    "linear_regression": ["--epochs", "1"],
    "mlp": ["--epochs", "1", "--hidden", "8"],
    "small_cnn": ["--epochs", "1"],
    "batch_norm": ["--epochs", "1"],
    "lenet": ["--epochs", "1"],
    "alexnet": ["--epochs", "1", "--width", "2"],
    "resnet_fine_tuning": ["--epochs", "1", "--image-size", "10", "--pictures", "4"],
    "worker_counts": ["--pictures", "150", "--size", "40", "--workers", "0", "1"],
    "normalisation": ["--epochs", "1"],
    "sweep_by_grid": ["--epochs", "1", "--lr", "0.01", "--batch-size", "500", "1000"],
    "confusion_matrix": ["--epochs", "2"],
    "hooks_and_cam": ["--epochs", "1"],
    "resuming": ["--epochs", "1", "--image-size", "10", "--stop-after", "3"],
    "own_network": ["--epochs", "1"],
}
TELLS = {
    "linear_regression": [r"least squares test accuracy 0\.[4-9]", r"W    \[10, 784\], bias b \[10\]"],
    "mlp": [r"8 hidden units     6,370 parameters"],  # 8 (784 + 1) + 10 (8 + 1)
    "small_cnn": [r"conv2 +Conv2d +\[12, 8, 8\] +1,812 parameters", "mixed up most often: .* of 100 times"],
    "batch_norm": [r"    1 +0\.\d+ +0\.\d+"],
    "lenet": [r"classic +test accuracy", r"pool2 +MaxPool2d +\[100, 16, 5, 5\]"],
    "alexnet": [r"pictures varied +accuracy 0\.\d+ in training"],
    "resnet_fine_tuning": [r"20 pictures of five new ones, backbone frozen: test accuracy 0\.\d+"],
    "worker_counts": [r"1 workers: +[\d,]+ images/s, waited", "different weights after all of these: 1"],
    "normalisation": [r"mean 0\.28\d and deviation 0\.35\d", r"pixels normalised +test accuracy 0\.[3-9]"],
    "sweep_by_grid": [r"batch_size 500 +0\.\d+", "2 of 2 runs finished"],
    "confusion_matrix": [r"taken for .* of 100 times", r"\d+ pictures mended, \d+ broken"],
    # What the layer returned is negative in places, though a ReLU in place came after it.
    "hooks_and_cam": [
        r"conv2 +\[8, 32, 14, 14\]  smallest value -",
        r"grad-cam +differs from CAM by hand by \d\.\de-0[5-9]",
    ],
    "resuming": [r"Stopped after step 3", r"model +(\w{16}) \1 the same", r"optimizer +(\w{16}) \1 the same"],
    "own_network": [r"epoch 1: accuracy 0\.\d+, shirts found", "finished after 43 steps", r"own:__main__\.network"],
}


def run(words, folder):
    """What Python says, started in a folder with these words."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_and_in_the_table():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    table = set(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert scripts == table == QUICK.keys() == TELLS.keys()


@pytest.mark.parametrize("name", QUICK)
def test_an_example_tells_its_lesson(name, forked, tmp_path):
    done = forked(QUICK[name], tmp_path, str(EXAMPLES / f"{name}.py"))
    assert done.returncode == 0, done.stderr
    for pattern in TELLS[name]:
        assert re.search(pattern, done.stdout), done.stdout
    if name == "batch_norm":
        # Given again, as a person starts it, it shows what it came to.
        assert run([str(EXAMPLES / f"{name}.py"), *QUICK[name]], tmp_path) == done.stdout


def test_fine_tuning_as_it_is_by_default_beats_random_weights(tmp_path):
    said = run([str(EXAMPLES / "resnet_fine_tuning.py")], tmp_path)
    random, frozen, thawed = (float(share) for share in re.findall(r"new ones, .* accuracy (0\.\d+)", said))
    assert min(frozen, thawed) > random + 0.03, said


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    said = run(["-c", "\n".join(cells).replace("epochs=2", "epochs=1")], tmp_path)
    for pattern in (
        r"epoch 1: 0\.\d+",
        r"0 epochs trained, the best bundle is step-00000054-validated",
        r"\| conv2 \|.*1,812",
        r"heat-maps \[8, \d+, \d+\] read at",
        r"probabilities differ by \de-",
    ):
        assert re.search(pattern, said), said
