"""Who trains what when, and what is written of it, with processes that only pretend to train."""

import json
import signal
from pathlib import Path

import pytest

from cutaway.checkpoints import Run
from cutaway.errors import CutawayError, Interrupted
from cutaway.settings import to_yaml, validated
from cutaway.settings.sweep import sweep_of
from cutaway.train.sweep import Watcher, conducting, expand, outcomes, sweep


class Processes:
    """Every process that the sweep starts, and what becomes of a run by its learning rate."""

    def __init__(self):
        self.started = []
        self.trained = []
        self.checked = []
        self.does = {}
        self.check_fails = None

    def start(self, slot, events, threads):
        process = Process(self, slot, events, threads)
        self.started.append(process)
        return process


class Process:
    def __init__(self, all_, slot, events, threads):
        self.all, self.slot, self.events, self.threads = all_, slot, events, threads
        self.signals = []
        self.killed = False

    def answer(self, kind, **content):
        self.events.put((self, {"kind": kind} | content))

    def ends(self):
        self.events.put((self, None))

    def tell(self, task):
        if task["do"] == "end":
            self.ends()
        elif task["do"] == "check":
            self.all.checked += task["runs"]
            if self.all.check_fails:
                self.answer("failed", message=self.all.check_fails, hint="", traceback="")
            else:
                self.answer("done")
        else:
            values = task["settings"]
            self.all.trained.append((self.slot, values["lr"]))
            self.all.does.get(values["lr"], finish)(self, values)

    def signal(self, signum):
        self.signals.append(signum)
        self.answer("interrupted", signum=signum)
        self.ends()

    def kill(self):
        self.killed = True

    def last_words(self):
        return "The process that trained it was ended by SIGSEGV."


def finish(process, values):
    begin(values)
    run = Run(Path(values["out"]))
    epoch = {"kind": "epoch", "step": 1, "epoch": 1, "valid_accuracy": 0.5}
    final = {"kind": "final", "step": 1, "test_accuracy": 0.5}
    run.metrics_jsonl.write_text(json.dumps(epoch) + "\n" + json.dumps(final) + "\n")
    process.answer("done")


def begin(values):
    Path(values["out"]).mkdir(parents=True, exist_ok=True)
    Run(Path(values["out"])).configuration.write_text(to_yaml(validated(values)))


def refuse(process, values):
    begin(values)
    process.answer("failed", message="It is no good.", hint="Try less.", traceback="", busy=False, fit=True)


def stumble(process, values):
    process.answer("failed", message="KeyError: 'x'", hint="", traceback="in line 1", busy=False, fit=False)
    process.ends()


def crash(process, values):
    begin(values)
    process.ends()


def is_trained_elsewhere(process, values):
    process.answer("failed", message="Another process.", hint="", traceback="", busy=True, fit=True)


@pytest.fixture
def processes(monkeypatch):
    made = Processes()
    monkeypatch.setattr(conducting, "Worker", made.start)
    return made


def of(tmp_path, *rates, **more):
    return sweep_of({"out": str(tmp_path / "sweep"), "grid": {"lr": list(rates)}} | more)


def directory(settings, lr):
    return next(run.settings.out for run in expand(settings).runs if run.settings.lr == lr)


def test_runs_are_trained_in_order_by_one_process(tmp_path, processes):
    settings = of(tmp_path, 0.3, 0.1, 0.2)
    assert sweep(settings) == ()
    assert processes.trained == [(0, 0.3), (0, 0.1), (0, 0.2)]
    assert [name for name, _ in processes.checked] == ["Run 1 (lr=0.3)", "Run 2 (lr=0.1)", "Run 3 (lr=0.2)"]
    assert len(processes.started) == 1
    assert processes.started[0].threads is None


def test_finished_runs_are_not_repeated(tmp_path, processes):
    sweep(of(tmp_path, 0.1, 0.2))
    sweep(of(tmp_path, 0.3, 0.2, 0.1))
    assert processes.trained == [(0, 0.1), (0, 0.2), (0, 0.3)]
    assert [name for name, _ in processes.checked[2:]] == ["Run 1 (lr=0.3)"]
    started = len(processes.started)
    sweep(of(tmp_path, 0.1))
    assert len(processes.started) == started


def test_finished_runs_are_measured_again_over_other_views(tmp_path, processes):
    plain, cropped = of(tmp_path, 0.1, 0.2), of(tmp_path, 0.1, 0.2, base={"tta": "five-crop"})
    sweep(plain)
    sweep(cropped)
    assert processes.trained == [(0, 0.1), (0, 0.2)] * 2
    sweep(cropped)
    sweep(plain)
    assert len(processes.trained) == 4


@pytest.mark.parametrize(
    ("how", "said", "started"),
    [(refuse, "It is no good. Try less.", 1), (stumble, "KeyError: 'x'", 2), (crash, "ended by SIGSEGV", 2)],
)
def test_a_run_that_fails_is_recorded_and_the_rest_goes_on(how, said, started, tmp_path, processes):
    settings = of(tmp_path, 0.1, 0.2, 0.3)
    processes.does[0.2] = how
    ends = []

    class Listener(Watcher):
        def run_ends(self, run, failure):
            ends.append((run.settings.lr, str(failure or "")))

    failed = sweep(settings, watcher=Listener())
    assert [run.settings.lr for run in failed] == [0.2]
    assert [lr for lr, _ in ends] == [0.1, 0.2, 0.3]
    assert said in ends[1][1]
    assert [lr for _, lr in processes.trained] == [0.1, 0.2, 0.3]
    assert len(processes.started) == started
    assert all(process.killed for process in processes.started)  # none is left behind
    assert said in str(outcomes.failure_of(directory(settings, 0.2)))
    assert outcomes.state_of(directory(settings, 0.2)) == "failed"


def test_a_failed_run_is_left_until_it_is_to_be_tried_again(tmp_path, processes):
    settings = of(tmp_path, 0.1, 0.2)
    processes.does[0.2] = refuse
    sweep(settings)
    assert [run.settings.lr for run in sweep(settings)] == [0.2]
    assert len(processes.trained) == 2
    del processes.does[0.2]
    assert sweep(settings, retry=True) == ()
    assert processes.trained[2:] == [(0, 0.2)]
    assert outcomes.failure_of(directory(settings, 0.2)) is None


def test_a_run_that_another_process_trains_is_told_of_and_not_called_failed_for_good(tmp_path, processes):
    settings = of(tmp_path, 0.1)
    processes.does[0.1] = is_trained_elsewhere
    assert len(sweep(settings)) == 1
    assert outcomes.failure_of(directory(settings, 0.1)) is None


def test_what_the_check_finds_ends_the_sweep_before_its_first_run(tmp_path, processes):
    processes.check_fails = "Run 2 (lr=0.2): There is no device 'cuda'."
    with pytest.raises(CutawayError, match="no device 'cuda'"):
        sweep(of(tmp_path, 0.1, 0.2))
    assert processes.trained == []
    assert not (tmp_path / "sweep").exists()


def test_several_runs_at_a_time_share_the_threads(tmp_path, processes, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(conducting.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    sweep(of(tmp_path, 0.1, 0.2, 0.3, 0.4), jobs=3)
    assert [process.threads for process in processes.started] == [4, 4, 4]
    assert sorted(lr for _, lr in processes.trained) == [0.1, 0.2, 0.3, 0.4]
    assert {slot for slot, _ in processes.trained} == {0, 1, 2}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_ends_the_sweep(signum, tmp_path, processes):
    settings = of(tmp_path, 0.1, 0.2, 0.3, 0.4)
    processes.does[0.2] = lambda process, values: signal.raise_signal(signum)
    processes.does[0.1] = lambda process, values: None  # is still at it
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as stop:
        sweep(settings, jobs=2)
    assert stop.value.signum == signum
    assert [process.signals for process in processes.started] == [[signum], [signum]]
    assert [lr for _, lr in processes.trained] == [0.1, 0.2]
    assert signal.getsignal(signum) is before
    assert outcomes.state_of(directory(settings, 0.2)) != "failed"


def test_a_changed_file_is_told(tmp_path, processes):
    told = []

    class Listener(Watcher):
        def begins(self, plan, pending, changes):
            told.append(changes and ([run.settings.lr for run in changes.new], changes.gone))

    sweep(of(tmp_path, 0.1, 0.2), watcher=Listener())
    gone = directory(of(tmp_path, 0.1, 0.2), 0.2).name
    sweep(of(tmp_path, 0.2, 0.1), watcher=Listener())
    sweep(of(tmp_path, 0.1, 0.3), watcher=Listener())
    sweep(of(tmp_path, 0.1, 0.3), watcher=Listener())
    assert told == [None, None, ([0.3], (gone,)), None]


def test_a_run_is_known_by_its_key_whatever_its_directory_is_called(tmp_path, processes):
    settings = of(tmp_path, 0.1)
    sweep(settings)
    before = directory(settings, 0.1)
    before.rename(before.with_name("the-good-one-" + expand(settings).runs[0].key))
    sweep(sweep_of({"out": str(tmp_path / "sweep"), "base": {"lr": 0.1}, "runs": [{}]}))
    assert processes.trained == [(0, 0.1)]
