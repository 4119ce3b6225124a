"""`cutaway checkpoints …` on real runs: what it prints, how it ends, and what is on the disk afterwards."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cutaway.checkpoints import Run, restore, write_bundle
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.runs import find
from cutaway.cli import main

STORED = Path(__file__).parents[1] / "checkpoints" / "fixtures" / "schema-1"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run` in the current directory: four bundles of steps 85, 170, 255 and 340, of which 170 is the best."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(STORED, "run")
    stored = find("run")
    weights = restore("run").network.state_dict()
    for number, accuracy in ((2, 0.9), (3, 0.5), (4, 0.6)):
        step = 85 * number
        progress = stored.manifest.progress.model_copy(update={"step": step, "epoch": number})
        metrics = {"valid_accuracy": accuracy, "valid_loss": float("inf")}
        manifest = stored.manifest.model_copy(update={"progress": progress, "metrics": metrics})
        tensors = {name: tensor + (number if name == "out.bias" else 0) for name, tensor in weights.items()}
        write_bundle(Path(f"run/checkpoints/step-{step:08d}-validated"), manifest, {"model": tensors})
    return Path("run")


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def bundle(run, step):
    return run / "checkpoints" / f"step-{step:08d}-validated"


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.fixture
def call(capsys):
    def call(line, *, code=0):
        assert main(line.split() if isinstance(line, str) else line) == code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert (not err) or code
        return out if code == 0 else out + err

    return call


def test_list_shows_step_metrics_size_age_and_health(run, call):
    head, *rows = call("checkpoints list run").splitlines()
    assert head.split()[:3] == ["bundle", "epoch", "step"]
    assert {"valid_accuracy", "size", "age", "health"} <= set(head.split())
    assert [row.split()[2] for row in rows] == ["85", "170", "255", "340"]
    assert all("whole" in row for row in rows)
    assert ["best" in row.split() for row in rows] == [False, True, False, False]


def test_list_tells_a_damaged_bundle_by_size_and_with_verify_by_every_byte(run, call):
    os.truncate(bundle(run, 85) / "model.safetensors", 100)
    flip(bundle(run, 255) / "model.safetensors")
    quick = json.loads(call("checkpoints list run --json"))
    assert [row["health"] for row in quick["bundles"]] == ["damaged", "whole", "whole", "whole"]
    assert "100 bytes" in quick["bundles"][0]["problem"]
    assert quick["checked"] == "sizes"
    full = json.loads(call("checkpoints list run --verify --json"))
    assert [row["health"] for row in full["bundles"]] == ["damaged", "whole", "damaged", "whole"]
    assert "its hash differs" in full["bundles"][2]["problem"]
    assert full["checked"] == "every byte"
    assert full["bundles"][1]["best"]
    assert full["bundles"][1]["metrics"] == {"valid_accuracy": 0.9, "valid_loss": "inf"}
    shown = call("checkpoints list run --verify").splitlines()
    assert [("damaged" in line) for line in shown[1:5]] == [True, False, True, False]
    assert sum(line.startswith("damaged: ") for line in shown) == 2


def test_verify_reads_all_bundles_and_fails_where_one_is_damaged(run, call):
    told = json.loads(call("checkpoints verify run --json"))
    assert [(row["health"], row["problem"]) for row in told] == [("whole", None)] * 4
    flip(bundle(run, 170) / "model.safetensors")
    shown = call("checkpoints verify run", code=1)
    assert shown.count(": whole") == 3
    assert "step-00000170-validated: damaged: " in shown
    assert "1 of 4 bundles of run are damaged" in shown
    assert "its hash differs" in call(f"checkpoints verify {bundle(run, 170)}", code=1)
    assert "whole" in call("checkpoints verify run@255")


def test_a_damaged_bundle_among_others_names_the_way_to_them(run, call):
    flip(bundle(run, 340) / "model.safetensors")
    said = call("inspect layers run@last", code=1)
    assert "its hash differs" in said
    assert "cutaway checkpoints list run --verify" in said
    os.truncate(bundle(run, 340) / "model.safetensors", 5)
    assert "cutaway checkpoints list run --verify" in call("inspect layers run@last", code=1)
    for step in (85, 170, 255):
        shutil.rmtree(bundle(run, step))
    assert "checkpoints list" not in call("inspect layers run@last", code=1)


def test_show_prints_what_the_manifest_says(run, call):
    shown = call("checkpoints show run@85")
    for said in ("step     85", "valid_accuracy  0.3", "fashion-mnist-sample", "mlp", "hidden   2", "lr", "0.05"):
        assert said in shown
    manifest = json.loads((bundle(run, 85) / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert name in shown
        assert entry["sha256"] in shown
    told = json.loads(call("checkpoints show run@85 --json"))
    assert told["files"] == manifest["files"]
    assert told["configuration"] == manifest["configuration"]
    assert told["path"] == str(bundle(run, 85))


def test_show_tells_the_history_of_resumes(run, call):
    from cutaway.checkpoints.manifest import Resumption

    manifest = find("run@340").manifest
    resumed = (Resumption(step=170, equality="overridden", because=("lr was 0.1, now 0.2",)),)
    progress = manifest.progress.model_copy(update={"step": 400})
    write_bundle(
        run / "checkpoints" / "step-00000400",
        manifest.model_copy(update={"resumed": resumed, "progress": progress}),
        {"model": restore("run").network.state_dict()},
    )
    shown = call("checkpoints show run@400")
    assert "resumed after step 170, overridden: lr was 0.1, now 0.2" in shown
    assert "history" not in call("checkpoints show run@85")


def test_diff_shows_metrics_and_the_layers_that_changed_most_first(run, call):
    before, after = (restore(f"run@{step}").network.state_dict()["out.bias"].double() for step in (170, 340))
    told = json.loads(call("checkpoints diff run@170 run@340 --json"))
    first = told["weights"][0]
    assert first["name"] == "out.bias"
    assert first["relative"] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-9)
    assert first["largest"] == pytest.approx(2.0, abs=1e-6)
    assert [row["largest"] for row in told["weights"][1:]] == [0.0, 0.0, 0.0]
    assert told["metrics"] == {"valid_accuracy": {"a": 0.9, "b": 0.6}, "valid_loss": {"a": "inf", "b": "inf"}}
    assert told["settings"] == {}
    shown = call("checkpoints diff run@170 run@340")
    assert "no settings that differ" in shown
    assert "1 tensors differ, 3 are equal" in shown
    assert ["out", "bias"] in [line.split()[:2] for line in shown.splitlines()]


def test_diff_of_other_networks_tells_settings_and_what_has_no_partner(run, call, capsys):
    torch.save({name: torch.ones(5) for name in ("a",)}, "w.pth")
    state = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 10)).state_dict()
    renamed = {name.replace("1.", "fc1.").replace("3.", "out."): tensor for name, tensor in state.items()}
    torch.save(renamed, "w.pth")
    Path("labels.txt").write_text("".join(f"{n}\n" for n in range(10)))
    words = ["checkpoints", "import", "--network", "mlp", "--network-arguments", '{"hidden": 3}', "--weights", "w.pth"]
    options = "--classes labels.txt --image-size 4 --mean 0.5 --std 0.5 --out other"
    assert main([*words, *options.split()]) == 0
    capsys.readouterr()
    shown = call("checkpoints diff run other")
    assert "network.arguments.hidden" in shown
    assert "only in A, or of another shape: 3 tensors" in shown
    assert "only in B, or of another shape: 3 tensors" in shown


def test_prune_keeps_the_newest_the_best_and_every_so_many_steps(run, call):
    before = names(run)
    said = call("checkpoints prune run --keep-last 2 --dry-run")
    assert "would remove" in said
    assert "step-00000085-validated" in said
    assert "1 bundles" in said
    assert names(run) == before
    assert "nothing to remove" in call("checkpoints prune run --keep-last 2 --keep-every 85")
    told = json.loads(call("checkpoints prune run --keep-last 2 --json"))
    assert [Path(path).name for path in told["removed"]] == ["step-00000085-validated"]
    assert told["bytes"] > 500
    assert [name.split("-")[1] for name in names(run)] == ["00000170", "00000255", "00000340"]
    call("checkpoints prune run --keep-last 2 --keep-best 0")
    assert [name.split("-")[1] for name in names(run)] == ["00000255", "00000340"]
    said = call("checkpoints prune run --keep-last 1 --keep-best 0")
    assert "nothing to remove; the newest two always stay" in said


def test_prune_waits_for_nobody_s_training(run, call, tmp_path):
    import subprocess
    import sys

    holder = (
        "import sys; from pathlib import Path; from cutaway.checkpoints.lock import only_writer\n"
        "with only_writer(Path('run')):\n    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", holder]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, **pipes
    ) as p:
        assert p.stdout.readline() == b"held\n"
        before = names(run)
        assert "Another process" in call("checkpoints prune run --keep-last 2", code=1)
        assert names(run) == before
        p.stdin.close()
    with only_writer(Path("run")):
        pass


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """Weights of a LeNet-5 of three classes by PyTorch alone, labels, and a preprocessing, in the current directory."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    layers = {
        "conv1": nn.Conv2d(1, 6, 5, padding=2),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(16 * 5 * 5, 120),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(120, 84),
        "relu4": nn.ReLU(),
        "out": nn.Linear(84, 3),
    }
    network = nn.Sequential()
    for name, module in layers.items():
        network.add_module(name, module)
    torch.save({"epoch": 4, "model_state_dict": network.state_dict()}, "theirs.pth")
    Path("labels.txt").write_text("cat\ndog\nöl\n", encoding="utf-8")
    Path("grey.yaml").write_text("size: [28, 28]\ncolor: grey\nmean: [0.25]\nstd: [0.5]\n")
    return network.eval()


IMPORT = "checkpoints import --network lenet5 --weights theirs.pth --classes labels.txt --out run"


def test_an_imported_network_is_inspected_exported_and_predicts_as_its_origin(labels, call):
    said = call(f"{IMPORT} --preprocessing grey.yaml")
    assert "loaded 10 of 10 tensors into lenet5" in said
    assert "The weights are those at 'model_state_dict'" in said
    assert "whole" in call("checkpoints list run")
    assert "weights file theirs.pth" in call("checkpoints show run")
    assert "conv2" in call("inspect layers run")
    assert "no pictures of its own" in call("inspect report run", code=1)

    said = call("export run --out model.onnx")
    assert "these pictures were generated" in said
    import onnxruntime

    told = onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map
    assert "generated pictures" in told["cutaway.verification"]

    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save("picture.png")
    (answer,) = json.loads(call("predict model.onnx picture.png --json"))
    inputs = (torch.from_numpy(pixels).float() / 255 - 0.25) / 0.5
    expected = torch.softmax(labels(inputs[None, None]), dim=1)[0]
    given = {score["label"]: score["probability"] for score in answer["top"]}
    assert given == pytest.approx(dict(zip(["cat", "dog", "öl"], expected.tolist(), strict=True)), abs=1e-5)


def test_the_way_back_is_read_by_pytorch(labels, call):
    call(f"{IMPORT} --preprocessing grey.yaml")
    assert "wrote back.pth" in call("checkpoints to-pth run --out back.pth")
    labels.load_state_dict(torch.load("back.pth", weights_only=True))
    assert "exists already" in call("checkpoints to-pth run --out back.pth", code=1)


def test_preprocessing_by_options_by_json_and_by_name(labels, call):
    call(f"{IMPORT}1 --image-size 28 --mean 0.25 --std 0.5")
    call(f"{IMPORT}2 --preprocessing grey.yaml")
    Path("grey.json").write_text('{"size": [28, 28], "color": "grey", "mean": [0.25], "std": [0.5]}')
    call(f"{IMPORT}3 --preprocessing grey.json")
    assert len({restore(f"run{number}").preprocessing for number in (1, 2, 3)}) == 1

    import torchvision

    torch.save(
        torchvision.models.inception_v3(num_classes=3, aux_logits=False, init_weights=False).state_dict(), "i.pth"
    )
    words = "checkpoints import --weights i.pth --classes labels.txt --preprocessing imagenet --out inception"
    said = call(f"{words} --network torchvision:inception_v3")
    assert "--mean 0.5 0.5 0.5" in said
    own = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    made = restore("inception").preprocessing
    assert ([made.size[0]], [made.resize_to]) == (own.crop_size, own.resize_size)
    usual = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert (list(made.mean), list(made.std)) == (usual.mean, usual.std)


def test_import_as_json(labels, call):
    told = json.loads(call(f"{IMPORT} --preprocessing grey.yaml --json"))
    assert (told["loaded"], told["of"]) == (10, 10)
    assert told["path"] == "run/checkpoints/step-00000000"


def test_labels_that_are_there_twice_get_a_number_and_that_is_said(labels, call):
    Path("labels.txt").write_text("crane\ncat\ncrane\n")
    assert "crane (2)" in call(f"{IMPORT} --preprocessing grey.yaml")
    assert restore("run").classes == ("crane", "cat", "crane (2)")


def test_the_names_of_imagenet_s_classes_are_known(labels, call):
    said = call(f"{IMPORT} --preprocessing grey.yaml".replace("labels.txt", "imagenet"), code=1)
    assert "has 3 outputs (at 'out.weight') for 1000 labels" in said
    assert "--partial loads 8 of 10 tensors" in said


def test_labels_are_named_with_commas_too_and_never_guessed(labels, call):
    words = "checkpoints import theirs.pth --network lenet5 --preprocessing grey.yaml --out run"
    said = call(words, code=1)
    assert "what the outputs of lenet5 stand for" in said
    assert "--classes imagenet" in said
    assert not Path("run").exists()
    call(f"{words} --classes cat,dog,fox")
    assert restore("run").classes == ("cat", "dog", "fox")


def test_more_labels_than_a_file_s_name_is_long_are_no_file(labels, call):
    many = ",".join(f"class-{number}" for number in range(100))
    said = call(f"{IMPORT} --preprocessing grey.yaml".replace("labels.txt", many), code=1)
    assert "has 3 outputs (at 'out.weight') for 100 labels" in said


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ("", "does not say what pictures", "--preprocessing imagenet"),
        ("--image-size 28 --mean 0.5", "does not say what pictures", "--std"),
        ("--image-size 28 --mean 0.5 --std 0", "std above 0", ""),
        ("--preprocessing none.yaml", "none.yaml cannot be read", ""),
        ("--preprocessing grey.yaml --image-size 32", "don't go with the file grey.yaml", "into the file"),
        ("--preprocessing bad.yaml", "size", ""),
        ("--preprocessing grey.yaml --network lenet6", "lenet6", "lenet5"),
        ("--preprocessing grey.yaml --classes none.txt", "no file none.txt with classes", "commas"),
        ("--preprocessing grey.yaml --classes cat,dog", "has 3 outputs (at 'out.weight') for 2 labels", "those 3"),
        ("--preprocessing grey.yaml --weights none.pth", "none.pth cannot be read", ""),
        ("--preprocessing grey.yaml --weights labels.txt", "neither a file of torch.save nor safetensors", ""),
        ("--preprocessing grey.yaml --network-arguments {", "not valid JSON", ""),
        ("--preprocessing grey.yaml --network-arguments 3", "must be a JSON object", "width"),
        ("--preprocessing grey.yaml --key ema", "no weights under 'ema'", "model_state_dict"),
        ("--preprocessing grey.yaml --network fashion-cnn", "does not fit fashion-cnn", "--partial"),
    ],
)
def test_what_a_person_gets_wrong_when_importing_is_a_sentence(labels, call, change, said, hint):
    Path("bad.yaml").write_text("size: big\nmean: [0.5]\nstd: [0.5]\n")
    complaint = call(f"{IMPORT} {change}", code=1)
    assert said in complaint
    assert hint in complaint
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("checkpoints list nowhere", "no run at nowhere"),
        ("checkpoints show nowhere", "no run or bundle at nowhere"),
        ("checkpoints diff run nowhere", "no run or bundle at nowhere"),
        ("checkpoints diff run run --limit -1", "--limit cannot be -1"),
        ("checkpoints prune nowhere --keep-last 2", "no run at nowhere"),
        ("checkpoints prune run --keep-last 0", "--keep-last cannot be 0"),
        ("checkpoints prune run --keep-last 2 --keep-every -5", "--keep-every cannot be -5"),
        ("checkpoints to-pth nowhere --out x.pth", "no run or bundle at nowhere"),
    ],
)
def test_what_a_person_gets_wrong_is_a_sentence(run, call, line, said):
    assert said in call(line, code=1)


def test_nan_weights_are_refused_and_allowed_by_an_option(run, call):
    manifest = find("run@340").manifest
    state = restore("run").network.state_dict()
    state["out.bias"][0] = float("nan")
    other = Run(Path("nan"))
    other.create()
    write_bundle(other.checkpoints / "step-00000001", manifest, {"model": state})
    for line in ("inspect layers nan", "inspect histograms nan", "export nan"):
        assert "'out.bias' of nan/checkpoints/step-00000001 has 1 of 10 values that are NaN" in call(line, code=1)
    assert "--allow-nan" in call("inspect layers nan", code=1)
    assert "fc1" in call("inspect layers nan --allow-nan")
    assert json.loads(call("inspect histograms nan --allow-nan --json"))


def test_the_weights_to_import_may_be_the_first_word(labels, call):
    words = IMPORT.replace("import --network lenet5 --weights theirs.pth", "import theirs.pth --network lenet5")
    assert "loaded 10 of 10 tensors into lenet5" in call(f"{words} --preprocessing grey.yaml")
