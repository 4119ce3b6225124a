"""What the command line says and how it ends."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cutaway.cli import COMMANDS, main, printable
from cutaway.cli.arguments import parse_settings_and
from cutaway.errors import SettingsError
from cutaway.settings import TrainSettings, read_yaml, to_yaml, validated


def run(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "cutaway", *words], capture_output=True, text=True, check=False, timeout=120, **options
    )


def test_help_lists_every_command_and_ends_with_0(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and command.purpose in shown for name, command in COMMANDS.items())
    assert main(["inspect", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "inspect cam" in shown
    assert "train " not in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    assert end.value.code == 0
    assert f"cutaway {name}" in capsys.readouterr().out


def test_wrong_usage_ends_with_2(capsys):
    assert main([]) == 2
    assert main(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["train", "--learning-rate", "1"])
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["train", "--lr", "-1"], "'lr' cannot be -1.0", "greater than 0"),
        (["train", "--device", "gpu"], "'device' cannot be 'gpu'", "cuda:NUMBER"),
        (["train", "--device", "cuda:99"], "no device 'cuda:99'", "cpu"),
        (["train", "--config", "missing.yaml"], "missing.yaml cannot be read", ""),
        (["train", "--resume", "nowhere"], "no run at nowhere", "--out"),
        (["train", "--pretrained", "--weights", "w.pth"], "'weights' cannot be 'w.pth'", "pretrained"),
        (["train", "--data", "fashion-mnits"], "fashion-mnits", "fashion-mnist"),
        (["train", "--network", "resnet19"], "resnet19", "resnet-small"),
        (["inspect", "layers", "nowhere"], "no run or bundle at nowhere", "cutaway train"),
        (["inspect", "layers", "resnet18"], "no run, bundle or network named 'resnet18'", "mean torchvision:resnet18?"),
        (["inspect", "layers", "resnet-smal"], "network named 'resnet-smal'", "mean resnet-small"),
        (
            ["inspect", "cam", "torchvision:resnet18", "--images", "x"],
            "is a network's name",
            "--network torchvision:resnet",
        ),
        (["inspect", "cam", "lenet5", "--images", "x"], "is a network's name", "--network lenet5"),
        (["export", "nowhere"], "no run or bundle at nowhere", "cutaway train"),
        (["predict", "nowhere.onnx", "x.png"], "nowhere.onnx", ""),
        (["checkpoints", "list", "nowhere"], "no run at nowhere", "cutaway train"),
    ],
)
def test_what_a_person_gets_wrong_is_a_sentence_and_a_hint_and_ends_with_1(words, said, hint, capsys, tmp_path):
    os.chdir(tmp_path)
    assert main(words) == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert hint in complaint
    assert "Traceback" not in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", ["folder:photos", "csv:photos.csv"])
def test_a_run_that_is_resumed_elsewhere_says_from_where_it_named_its_data(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "some/runs/c"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(TrainSettings(data=data, out=run)))
    assert main(["train", "--resume", str(run)]) == 1
    hint = f"The run was begun with --data {data}; start where it was begun, or give --data.\n"
    assert hint in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--data", "folder:elsewhere"]) == 1
    assert main(["train", "--data", data, "--out", "new"]) == 1
    assert "begun" not in capsys.readouterr().err


def test_a_yaml_file_is_overridden_by_options(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("lr: 0.5\nbatch-size: 32\nnetwork_arguments: {width: 8}\nnetwork: resnet-small\n")
    settings, _ = parse_settings_and({}, "train", ["--config", str(file), "--lr", "0.01", "--no-channels-last"], "")
    assert settings == TrainSettings(
        lr=0.01, batch_size=32, network="resnet-small", network_arguments={"width": 8}, channels_last=False
    )
    assert parse_settings_and({}, "train", [f"--config={file}"], "")[0].lr == 0.5


def test_a_run_s_own_configuration_gives_its_settings_back(tmp_path):
    settings = TrainSettings(lr=0.02, out=Path("a/b"), image_size=32, network_arguments={"width": 8})
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    assert validated(read_yaml(tmp_path / "config.yaml")) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: [", "not valid YAML"),
        ("- 1", "not a mapping"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("lrr: 0.1", "Did you mean 'lr'"),
        ("lr: fast", "'lr' cannot be 'fast'"),
        ("a: &a [1]\nlr: *a", "not valid YAML in line 2"),
        ("lr: " + "[" * 5000, "not valid YAML"),
        ("lr: " + "x" * 2_000_000, "larger than"),
    ],
)
def test_a_yaml_file_that_is_wrong_is_told_in_words(text, said, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SettingsError) as error:
        validated(read_yaml(tmp_path / "run.yaml"))
    assert said in str(error.value)


def test_text_from_a_stranger_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\nc\u202e") == "a\N{REPLACEMENT CHARACTER}[2Jb\nc\N{REPLACEMENT CHARACTER}"


def test_a_closed_pipe_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m cutaway train --help | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_the_version_is_the_package_s():
    from importlib.metadata import version

    assert run("--version").stdout.split() == ["cutaway", version("cutaway")]


def test_a_missing_extra_is_named(tmp_path):
    """As with the bare package: no torch there."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Block:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError('no torch', name='torch')\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    done = run("inspect", "layers", "x", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "cutaway[inspect]" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.dumps(done.stdout) == '""'


def test_the_demo_removes_nothing_that_no_demo_made(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "wedding.jpg").write_bytes(b"x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "no demo made it" in capsys.readouterr().err
    assert (tmp_path / "pictures" / "wedding.jpg").exists()
    assert (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("full", [True, False])
def test_the_command_that_the_demo_begins_with_trains_what_the_demo_asks_for(tmp_path, full):
    from cutaway.cli import demo, training

    asked = demo._settings(demo.DemoOptions(out=tmp_path), full=full)
    command, *words = demo._train_words(asked)
    assert command == "train"
    assert parse_settings_and(training.OWN, command, words, "")[0] == asked


def test_the_demo_trains_as_many_epochs_as_it_is_given(tmp_path):
    from cutaway.cli.demo import DemoOptions, _settings

    def epochs(given, *, full):
        return _settings(DemoOptions(out=tmp_path, epochs=given), full=full).epochs

    assert [epochs(1, full=True), epochs(1, full=False)] == [1, 1]
    assert [epochs(None, full=True), epochs(None, full=False)] == [3, 6]


@pytest.fixture
def demo_without_work(monkeypatch):
    """What the demo loads and serves, where its long steps do nothing."""
    import cutaway.checkpoints
    import cutaway.datasets
    from cutaway.cli import demo, serving
    from cutaway.datasets import builtin

    done = SimpleNamespace(loaded=[], served=[])
    for step in ("_train_and_kill", "_resume_and_compare", "_look_inside"):
        monkeypatch.setattr(demo, step, lambda *words: None)
    monkeypatch.setattr(demo, "_export", lambda restored, dataset, run: run / "export" / "model.onnx")
    monkeypatch.setattr(cutaway.checkpoints, "restore", lambda reference: None)
    monkeypatch.setattr(cutaway.datasets, "load", lambda name, **options: done.loaded.append(name))
    monkeypatch.setattr(builtin, "fashion_mnist_is_here", lambda: False)
    monkeypatch.setattr(serving, "serve_file", done.served.append)
    return done


def test_the_demo_ends_by_serving_what_it_exported_unless_it_is_told_not_to(tmp_path, demo_without_work, capsys):
    assert main(["demo", "--no-serve", "--out", str(tmp_path / "demo")]) == 0
    assert demo_without_work.served == []
    model = tmp_path / "demo" / "run" / "export" / "model.onnx"
    assert f"cutaway serve {model}" in capsys.readouterr().out
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port), "--out", str(tmp_path / "demo")]) == 0
    assert main(["demo", "--port", str(port), "--out", str(tmp_path / "demo")]) == 0
    assert [(options.model, options.port) for options in demo_without_work.served] == [(model, 0), (model, port)]


def test_the_demo_takes_the_full_set_where_it_lies_on_disk(tmp_path, demo_without_work, monkeypatch):
    from cutaway.datasets import builtin

    words = ["demo", "--no-serve", "--out", str(tmp_path / "demo")]
    assert main(words) == 0
    monkeypatch.setattr(builtin, "fashion_mnist_is_here", lambda: True)
    assert main(words) == 0
    assert main([*words, "--data", "sample"]) == 0
    assert demo_without_work.loaded == ["fashion-mnist-sample", "fashion-mnist", "fashion-mnist-sample"]


def test_the_demo_makes_anew_what_an_earlier_demo_made(tmp_path, demo_without_work):
    words = ["demo", "--no-serve", "--out", str(tmp_path / "demo")]
    assert main(words) == 0
    made = [tmp_path / "demo" / name / "file" for name in ("run", "uninterrupted", "pictures")]
    for file in made:
        file.parent.mkdir()
        file.write_text("of the first")
    (tmp_path / "demo" / "mine.txt").write_text("kept")
    assert main(words) == 0
    assert [file for file in made if file.exists()] == []
    assert (tmp_path / "demo" / "mine.txt").exists()
