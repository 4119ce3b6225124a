"""`cutaway sweep` in real processes: interrupted, killed and given again, against the sweep that was left alone."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cutaway.checkpoints import Run, find
from cutaway.cli import main
from cutaway.errors import CutawayError
from cutaway.settings.sweep import read_sweep, sweep_of
from cutaway.train import train
from cutaway.train.keeping import KeptData
from cutaway.train.sweep import Watcher, conducting, expand, in_short, run, sweep
from cutaway.train.sweep.outcomes import failure_of, state_of
from cutaway.train.sweep.running import check

LONG = 0.02
"""The learning rate of the run that takes long enough to be interrupted."""


@pytest.fixture(scope="module")
def file(pictures, tmp_path_factory):
    """A sweep of four small runs, the third of which is long."""
    file = tmp_path_factory.mktemp("sweep") / "sweep.yaml"
    base = {"data": f"folder:{pictures}", "network": "mlp", "image_size": 8, "epochs": 2, "batch_size": 16}
    runs = [{"lr": 0.001}, {"lr": 0.01}, {"lr": LONG, "epochs": 30, "keep_last": 100}, {"lr": 0.03}]
    file.write_text(yaml.safe_dump({"base": base, "runs": runs}))
    return file


@pytest.fixture(scope="module")
def alone(file, tmp_path_factory):
    """The same, never interrupted."""
    out = tmp_path_factory.mktemp("alone") / "out"
    done = subprocess.run(command(file, out), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


def command(file, out, *options):
    return [sys.executable, "-m", "cutaway", "sweep", str(file), "--out", str(out), *options]


def outcome(out):
    """Of every run the last bundle's hashes, and its journal but for times."""
    found = {}
    for path in sorted(path for path in out.iterdir() if (path / "config.yaml").exists()):
        journal = [{k: v for k, v in e.items() if "second" not in k} for e in Run(path).journal()]
        files = find(path, prefer="last").manifest.files
        found[path.name] = ({name: (e.bytes, repr(e)) for name, e in files.items()}, journal)
    return found


def snapshot(directory):
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def run_with(out, file, lr):
    return next(out / run.name for run in expand(read_sweep(file)).runs if run.settings.lr == lr)


def until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("signum", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_sweep_goes_on_where_it_was(signum, code, file, alone, tmp_path, capsys):
    out = tmp_path / "out"
    first, long = run_with(out, file, 0.001), run_with(out, file, LONG)
    process = subprocess.Popen(command(file, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(Run(long).bundle_paths()) > 2, process)
    process.send_signal(signum)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert "run 2/4" in shown
    assert "run 3/4" not in shown
    if signum != signal.SIGKILL:
        assert "The sweep stopped; the same command goes on from there." in said
    assert state_of(first) == "finished"
    assert state_of(long) == "unfinished"
    finished = snapshot(first)
    assert main(["sweep", str(file), "--out", str(out)]) == 0
    again = capsys.readouterr()
    assert "4 runs, 2 of them done." in again.out
    assert "Going on with" in again.err
    assert snapshot(first) == finished
    assert outcome(out) == outcome(alone)
    resumed = find(long, prefer="last").manifest.resumed
    assert [resumption.equality for resumption in resumed] == ["bitwise"]


@pytest.mark.faults
@pytest.mark.slow
def test_a_process_that_dies_costs_one_run_only(file, alone, tmp_path, monkeypatch):
    started = []
    real = conducting.Worker
    monkeypatch.setattr(conducting, "Worker", lambda *arguments: started.append(real(*arguments)) or started[-1])

    class Killer(Watcher):
        def run_notes(self, run, text):
            if run.settings.lr == LONG:
                os.kill(started[-1]._process.pid, signal.SIGKILL)

    settings = read_sweep(file).model_copy(update={"out": tmp_path / "out"})
    failed = sweep(settings, watcher=Killer())
    assert [run.settings.lr for run in failed] == [LONG]
    assert "ended by SIGKILL" in str(failure_of(failed[0].settings.out))
    assert sweep(settings, retry=True) == ()
    assert outcome(tmp_path / "out") == outcome(alone)


def test_each_run_is_what_train_makes_of_its_settings(file, alone, tmp_path):
    settings = next(run.settings for run in expand(read_sweep(file)).runs if run.settings.lr == 0.03)
    train(settings.model_copy(update={"out": tmp_path / "out" / settings.out.name}))
    by_itself = outcome(tmp_path / "out")
    assert by_itself == {settings.out.name: outcome(alone)[settings.out.name]}


@pytest.mark.slow
def test_several_at_a_time_come_out_the_same(file, alone, tmp_path):
    done = subprocess.run(
        command(file, tmp_path / "out", "--jobs", "2"), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "out") == outcome(alone)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"network": "lenet5"}, "Run 5 (network=lenet5): lenet5 "),
        ({"network_arguments": {"width": 3}}, "mlp has no argument 'width'"),
        ({"device": "cuda:77"}, "Run 5 (device=cuda:77): There is no device 'cuda:77'"),
        ({"data": "folder:nowhere"}, "Run 5 (data=folder:nowhere): "),
        ({"class_weights": [1, 2, 3, 4, 5, 6, 7]}, "There are 7 class weights for"),
        ({"monitor": "valid_own"}, "Run 5 (monitor=valid_own): There is no metric 'valid_own'"),
    ],
)
def test_a_mistake_in_a_late_run_is_told_before_the_first(more, said, file, tmp_path):
    values = yaml.safe_load(file.read_text())
    plan = expand(sweep_of(values | {"runs": [*values["runs"], more], "out": str(tmp_path)}))
    with pytest.raises(CutawayError) as error:
        check([(f"Run {run.number} ({in_short(run.overrides)})", run.settings) for run in plan.runs], KeptData())
    assert said in error.value.message


def test_a_mistake_ends_the_command_with_a_sentence_and_begins_nothing(file, tmp_path, capsys):
    values = yaml.safe_load(file.read_text())
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(values | {"runs": [*values["runs"], {"network": "lenet5"}]}))
    assert main(["sweep", str(wrong), "--out", str(tmp_path / "out")]) == 1
    assert "error: Run 5 (network=lenet5): lenet5 " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_sweeps_do_not_train_into_one_directory(file, tmp_path, capsys):
    hold = (
        "import sys; from pathlib import Path; from cutaway.checkpoints.lock import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        assert main(["sweep", str(file), "--out", str(out)]) == 1
        other.stdin.close()
    assert "Another process is training into" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_a_run_that_diverges_is_recorded_and_the_exit_code_is_1(file, tmp_path, capsys):
    values = yaml.safe_load(file.read_text())
    diverging = tmp_path / "diverging.yaml"
    runs = [{"lr": 100, "optimizer": "sgd", "epochs": 20, "log_every": 1}, {"lr": 0.01}]
    diverging.write_text(yaml.safe_dump(values | {"runs": runs}))
    out = tmp_path / "out"
    assert main(["sweep", str(diverging), "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert "1 of 2 runs failed, run 1 first." in told.err
    assert "run 2/2  lr=0.01  valid_accuracy" in told.out
    failed = next(path for path in out.glob("*/failed.json"))
    assert "the training stopped" in json.loads(failed.read_text())["message"]
    assert main(["sweep", str(diverging), "--out", str(out)]) == 1
    assert "2 of them done" in capsys.readouterr().out


def test_tensorboard_shows_one_table_of_hyper_parameters_over_the_sweep(alone):
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(alone))
    events.Reload()
    context = TBContext(
        data_provider=MultiplexerDataProvider(events, str(alone)), logdir=str(alone), multiplexer=events
    )
    hparams = backend_context.Context(context)
    asked = RequestContext()
    metadata = hparams.hparams_metadata(asked, "")
    experiment = hparams.experiment_from_metadata(asked, "", True, metadata, None)
    assert {"lr", "epochs", "network"} <= {info.name for info in experiment.hparam_infos}
    shown = {info.name.tag for info in experiment.metric_infos}
    assert {"hparam/valid_accuracy", "hparam/test_accuracy"} <= shown
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=10, allowed_statuses=[api_pb2.STATUS_SUCCESS], col_params=[]
    )
    groups = list_session_groups.Handler(asked, hparams, "", request).run().session_groups
    table = {
        group.hparams["lr"].number_value: {value.name.tag: value.value for value in group.metric_values}
        for group in groups
    }
    assert sorted(table) == [0.001, 0.01, LONG, 0.03]
    for lr, path in itertools.product(table, sorted(alone.iterdir())):
        if f"lr={lr}" in path.name.split("-")[0].split(","):
            final = Run(path).journal()[-1]
            assert table[lr]["hparam/test_accuracy"] == pytest.approx(final["test_accuracy"])
            assert table[lr]["hparam/valid_loss"] == pytest.approx(find(path).manifest.metrics["valid_loss"])


def test_a_function_from_settings_to_metrics_is_what_a_sweep_calls(file, alone, tmp_path):
    planned = next(planned for planned in expand(read_sweep(file)).runs if planned.settings.lr == 0.01)
    metrics = run(planned.settings.model_dump() | {"out": tmp_path / "run"})
    journal = Run(alone / planned.name).journal()
    best = max((e for e in journal if e["kind"] == "epoch"), key=lambda e: e["valid_accuracy"])
    assert metrics["valid_accuracy"] == best["valid_accuracy"]
    assert metrics["test_loss"] == journal[-1]["test_loss"]
    assert Path(tmp_path / "run/config.yaml").exists()
