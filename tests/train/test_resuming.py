"""A resumed run against the uninterrupted one, byte by byte."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.checkpoints import Run, find, read_tensors
from cutaway.errors import BundleError, CutawayError, DataError, Interrupted, NetworkError, SettingsError
from cutaway.settings import FREE_TO_CHANGE
from cutaway.train import Callback, TrainSettings, generators, train

# Of the machine, not of the training.
TIMES = ("seconds", "wait_seconds", "images_per_second", "gpu_memory_mb")


BASE = {"network": "fashion-cnn-bn", "epochs": 2, "batch_size": 16, "lr": 0.01, "log_every": 1, "image_size": 28}


def small(tmp_path, data, **changes):
    return TrainSettings(**BASE | {"data": data, "out": tmp_path / "run"} | changes)


def stopping_after(batches):
    """A `Track` that sends this process SIGTERM while it trains on the batch of that number."""

    def track(items, description, total=None):
        nonlocal batches
        for item in items:
            if description.startswith("epoch"):
                if batches == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                batches -= 1
            yield item

    return track


def outcome(out):
    """What has to be the same: the last bundle's files by hash, each step and epoch of the journal, and the memory."""
    last = find(out, prefer="last")
    untimed = [{k: v for k, v in entry.items() if k not in TIMES} for entry in Run(Path(out)).journal()]
    return (
        {name: entry.digest for name, entry in last.manifest.files.items()},
        last.path.name,
        untimed,
        last.manifest.state,
    )


# Every pair of values of these settings stands together in at least one row (greedily chosen, checked below). A value
# that is a mapping stands for several settings at once.
OPTIONS = {
    "network": ["fashion-cnn-bn", "resnet-small", "lenet5", "torchvision:squeezenet1_1"],
    "optimizer": [
        {"optimizer": "adamw", "layer_decay": 0.5},
        {"optimizer": "sgd", "nesterov": True},
        {"optimizer": "nadam"},
        {"optimizer": "rmsprop"},
    ],
    "loading": [{}, {"memory_limit": 0}, {"memory_limit": 0, "workers": 1}, {"memory_limit": 0, "workers": 2}],
    "channels_last": [True, False],
    "schedule": [
        {},
        {"schedule": "one-cycle"},
        {"schedule": "plateau", "plateau_patience": 0, "plateau_threshold": 0.9, "warmup_steps": 2},
    ],
    "loss": [
        {"label_smoothing": 0.1, "balance": "loss", "precision": "bf16", "clip_norm": 1.0},
        {"loss": "focal", "class_weights": (1, 2, 3), "ema_decay": 0.9, "l1": 1e-4},
        {"batch_size": 8, "accumulate": 2, "balance": "sample", "precision": "fp16", "ema_decay": 0.9},
    ],
    "augment": [
        {"augment": ("crop", "rotate", "trivial", "erase", "salt-and-pepper"), "mixup": 0.4},
        {"augment": ("resized-crop", "flip"), "mixup": 0.4, "cutmix": 1.0},
        {},
    ],
    "backbone": [{"freeze_backbone": 1, "unfreeze": "gradual", "backbone_lr_scale": 0.1}, {}],
    "save": [{}, {"save_every": 2, "patience": 1, "monitor": "valid_auroc"}, {"save_in_background": False}],
    "stop_after": [1, 3, 4, 6],
}


# What stands with a network of that name.
NETWORKS_OWN = {
    "resnet-small": {"network_arguments": {"width": 4, "dropout": 0.5}},
    "lenet5": {"activation": "gelu", "norm": "group", "dropout": 0.3, "init": "orthogonal"},
    "torchvision:squeezenet1_1": {"image_size": 32},
}


def pairwise(attempts=12):
    """Rows that between them hold every pair of values: the fewest of a few greedy tables."""
    return min((_greedy(random.Random(seed)) for seed in range(attempts)), key=len)


def _greedy(chance):
    """Each row begins with a pair that is left, and takes what covers most of the others."""
    names = list(OPTIONS)
    left = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(OPTIONS[a]))
        for j in range(len(OPTIONS[b]))
    }
    rows = []
    while left:
        a, i, b, j = chance.choice(sorted(left))
        row = {a: i, b: j}
        for name in chance.sample(names, len(names)):
            if name not in row:
                row[name] = max(
                    range(len(OPTIONS[name])),
                    key=lambda value: sum(pair in left for pair in _pairs({**row, name: value})),
                )
        left -= _pairs(row)
        rows.append({name: OPTIONS[name][row[name]] for name in names})
    return rows


def _pairs(row):
    ordered = [(name, row[name]) for name in OPTIONS if name in row]
    return {(a, i, b, j) for (a, i), (b, j) in itertools.combinations(ordered, 2)}


TABLE = pairwise()

# What keeps a state of its own, or follows the step, and meets none of the others: once each is enough.
ONCE = [
    {
        "optimizer": "adam",
        "betas": (0.8, 0.9),
        "eps": 1e-6,
        "weight_decay": 0.01,
        "l2": 1e-3,
        "clip_value": 0.1,
        "schedule": "step",
        "schedule_every": 1,
        "schedule_factor": 0.5,
        "resize": "pad",
    },
    {"optimizer": "adamax", "schedule": "multi-step", "schedule_milestones": (2, 5), "schedule_per": "step"},
    {
        "optimizer": "adadelta",
        "rho": 0.8,
        "schedule": "cosine-restarts",
        "schedule_every": 2,
        "schedule_growth": 2,
        "schedule_per": "step",
        "loss": "brier",
        "valid_share": 0.2,
        "test_share": 0.3,
    },
    {"optimizer": "adagrad", "schedule": "polynomial", "schedule_power": 2.0, "lr_min": 1e-4, "loss": "mse"},
    {"optimizer": "radam", "schedule": "exponential", "schedule_per": "step", "normalisation": "imagenet"},
    {"optimizer": "rmsprop", "momentum": 0.5, "alpha": 0.9, "schedule": "trapezoid", "min_delta": 0.5, "patience": 2},
    {"data": "fashion-mnist-sample", "batch_size": 2000, "schedule": "inverse-sqrt", "seed": 3},
    {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant"},
    {"optimizer": "sgd", "schedule": "linear", "loss": "focal", "focal_gamma": 1.0, "monitor_mode": "min"},
]

# Of a run's beginning alone, which a bundle holds the outcome of; or a factor that nothing is remembered of.
NO_STATE = {
    *("init_scale", "pretrained", "weights", "init_from", "resplit"),
    *("cycle_rise", "cycle_momentum", "plateau_cooldown", "auxiliary_weight"),
}


def test_the_table_is_small():
    assert len(TABLE) <= 24


def test_every_setting_that_can_change_a_run_is_resumed_with_once():
    values = [value for column in OPTIONS.values() for value in column if isinstance(value, dict)]
    rows = [*values, *ONCE, NETWORKS_OWN["lenet5"], NETWORKS_OWN["resnet-small"]]
    tried = {name for row in rows for name in row} | set(OPTIONS) | set(BASE) | {"compile", "out"}
    assert set(TrainSettings.model_fields) - tried - NO_STATE - FREE_TO_CHANGE == set()
    for name in ("optimizer", "schedule", "loss", "precision"):
        kinds = set(get_args(TrainSettings.model_fields[name].annotation)) - {TrainSettings.model_fields[name].default}
        assert kinds == {row[name] for row in rows if name in row} - {TrainSettings.model_fields[name].default}, name


@pytest.mark.parametrize("row", ONCE, ids=lambda row: row["schedule"])
def test_each_of_the_other_settings_resumes_too(tmp_path, pictures, row):
    given = {"network": "lenet5", "data": f"folder:{pictures}"} | row
    whole, stopped = (small(tmp_path / name, **given) for name in ("whole", "stopped"))
    train(whole)
    with pytest.raises(Interrupted):
        train(stopped, track=stopping_after(4))
    train(stopped)
    assert outcome(whole.out) == outcome(stopped.out)


def after_the_first(rows, first=4):
    """All rows, of which the fast suite takes the first alone."""
    return [*rows[:first], *(pytest.param(row, marks=pytest.mark.slow) for row in rows[first:])]


@pytest.mark.parametrize(
    "row", after_the_first(TABLE), ids=lambda row: f"{row['network'].split(':')[-1]}-{row['stop_after']}"
)
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(tmp_path, pictures, row):
    row = dict(row)
    stop_after = row.pop("stop_after")
    changes = {}
    for name, value in row.items():
        changes |= value if isinstance(value, dict) else {name: value}
    changes |= NETWORKS_OWN.get(row["network"], {})
    data = f"folder:{pictures}"
    whole = small(tmp_path / "whole", data, **changes)
    train(whole)
    stopped = small(tmp_path / "stopped", data, **changes)
    with pytest.raises(Interrupted) as stop:
        train(stopped, track=stopping_after(stop_after))
    assert stop.value.signum == signal.SIGTERM
    halted = find(stopped.out, prefer="last").manifest
    assert halted.progress.step == stop_after
    train(stopped)
    assert outcome(whole.out) == outcome(stopped.out)
    history = find(stopped.out, prefer="last").manifest.resumed
    assert [(entry.step, entry.equality) for entry in history] == [(stop_after, "bitwise")]


@pytest.mark.slow
def test_a_compiled_run_resumes_bit_for_bit_too(tmp_path, pictures):
    """The last batch of an epoch is smaller, and must not change how the others are computed afterwards."""
    changes = {"network": "lenet5", "compile": True, "batch_size": 20, "epochs": 2}
    whole = small(tmp_path / "whole", f"folder:{pictures}", **changes)
    assert train(whole).last.manifest.progress.step % 2 == 0
    stopped = small(tmp_path / "stopped", f"folder:{pictures}", **changes)
    with pytest.raises(Interrupted):
        train(stopped, track=stopping_after(4))
    torch._dynamo.reset()
    train(stopped)
    assert outcome(whole.out) == outcome(stopped.out)


def test_without_the_generators_a_resumed_run_differs(tmp_path, pictures, monkeypatch):
    """The negative control: were the comparison blind, it would pass here too."""
    changes = {"network": "resnet-small", "network_arguments": {"width": 4, "dropout": 0.5}}
    whole = small(tmp_path / "whole", f"folder:{pictures}", **changes)
    train(whole)
    stopped = small(tmp_path / "stopped", f"folder:{pictures}", **changes)
    with pytest.raises(Interrupted):
        train(stopped, track=stopping_after(2))
    monkeypatch.setattr("cutaway.train.session.restore_generators", lambda *_: torch.manual_seed(99))
    train(stopped)
    assert outcome(whole.out)[0] != outcome(stopped.out)[0]


def test_fused_optimizer_state_takes_the_parameters_memory_format(tmp_path, pictures):
    """Were it left contiguous, a fused optimizer over channels_last weights would go wrong in silence."""
    from cutaway.checkpoints import optimizer_state
    from cutaway.networks import NetworkSpec, build

    network = build(NetworkSpec(name="lenet5", num_classes=3, input_shape=(3, 28, 28)))
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network(torch.rand(2, 3, 28, 28)).sum().backward()
    optimizer.step()
    tensors, groups = optimizer_state.named_state(network, optimizer)
    stored = {name: tensor.contiguous() for name, tensor in tensors.items()}
    other = torch.optim.AdamW(network.parameters(), fused=True)
    optimizer_state.load_named_state(network, other, stored, groups)
    weight = network.conv2.weight
    assert other.state[weight]["exp_avg"].stride() == weight.stride() != weight.contiguous().stride()
    assert torch.equal(other.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])


def test_a_damaged_newest_bundle_is_set_aside_and_told_of(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=3)
    train(settings)
    reference = outcome(settings.out)
    newest = find(settings.out, prefer="last").path
    file = newest / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    notes = []
    train(settings, on_note=notes.append)
    assert any("its hash differs" in note and "set aside" in note for note in notes)
    assert outcome(settings.out)[0] == reference[0]
    assert (newest.parent / f"damaged-{newest.name}").is_dir()


def test_a_changed_setting_is_refused_by_name_and_nothing_is_lost(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)
    train(settings)
    before = outcome(settings.out)
    with pytest.raises(BundleError, match=r"(?s)seed +was 0, now 1.*lr +was 0\.01, now 0\.02"):
        train(settings.model_copy(update={"lr": 0.02, "seed": 1}))
    with pytest.raises(BundleError, match="cosine schedule ends with the run's last epoch"):
        train(settings.model_copy(update={"epochs": 2}))
    assert "lr" in (settings.out / "config.yaml").read_text()
    assert outcome(settings.out) == before


@pytest.mark.parametrize("schedule", ["constant", "plateau", "step"])
def test_where_the_schedule_goes_on_a_finished_run_can_be_extended(tmp_path, pictures, schedule):
    changes = {"schedule": schedule, "schedule_every": 1, "plateau_patience": 0, "plateau_threshold": 0.9}
    changes["warmup_steps"] = 2
    long = small(tmp_path / "long", f"folder:{pictures}", epochs=3, **changes)
    rates = [metrics.lr for metrics in train(long).metrics]
    assert (rates[2] < 0.5 * rates[1]) == (schedule != "constant")
    short = small(tmp_path / "short", f"folder:{pictures}", epochs=1, **changes)
    train(short)
    train(short.model_copy(update={"epochs": 3}))
    assert outcome(long.out)[0] == outcome(short.out)[0]


def test_two_processes_cannot_train_into_one_run(tmp_path, pictures):
    from cutaway.checkpoints.lock import only_writer

    settings = small(tmp_path, f"folder:{pictures}")
    holder = "import sys; from pathlib import Path; from cutaway.checkpoints.lock import only_writer\n"
    holder += "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", holder, str(settings.out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BundleError, match=f"process {process.pid}"):
            train(settings)
        process.kill()
        process.wait()
    with only_writer(settings.out):
        pass


def test_the_initial_weights_and_layers_are_those_asked_for(tmp_path, pictures):
    chosen = {"network": "mlp", "init": "zeros", "activation": "tanh", "norm": "layer", "dropout": 0.25, "lr": 1e-9}
    last = train(small(tmp_path, f"folder:{pictures}", epochs=1, **chosen)).last
    assert last.manifest.network.arguments == {"activation": "tanh", "norm": "layer", "dropout": 0.25}
    tensors = read_tensors(last.path, last.manifest, "model")
    assert tensors["fc1.weight"].abs().max() < 1e-6
    assert torch.allclose(tensors["bn1.weight"], torch.ones(128))
    with pytest.raises(NetworkError, match="no argument 'norm'"):
        train(small(tmp_path / "other", f"folder:{pictures}", network="torchvision:resnet18", norm="group"))


def test_generators_come_back_as_they_were():
    generators.seed_generators(3)
    device = torch.device("cpu")
    states = generators.generator_states(device)

    def draw():
        import random

        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), torch.rand(2).tolist()

    first = draw()
    generators.restore_generators(states, device)
    assert draw() == first


def test_bundle_tensors_are_the_network_s(tmp_path, pictures):
    trained = train(small(tmp_path, f"folder:{pictures}", epochs=1))
    tensors = read_tensors(trained.last.path, trained.last.manifest, "model")
    assert set(tensors) >= {"conv1.weight", "bn1.running_mean", "out.bias"}
    assert json.loads((trained.last.path / "manifest.json").read_text())["progress"] == {
        "epoch": 1,
        "batch": 0,
        "step": 4,
    }


def test_an_overridden_setting_is_taken_and_written_down(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=2)
    with pytest.raises(Interrupted):
        train(settings, track=stopping_after(2))
    notes = []
    changed = settings.model_copy(update={"lr": 0.001, "epochs": 3})
    trained = train(changed, override=("lr", "epochs"), on_note=notes.append)
    (entry,) = trained.last.manifest.resumed
    assert (entry.step, entry.equality) == (2, "overridden")
    assert entry.because == ("lr was 0.01, now 0.001", "epochs was 2, now 3")
    assert any("lr was 0.01, now 0.001" in note for note in notes)
    assert trained.last.manifest.progress.epoch == 3
    assert trained.last.manifest.configuration["lr"] == 0.001
    # The settings that it was begun with are no longer those that it goes on with.
    with pytest.raises(BundleError, match=r"(?s)newest bundle .* has other settings:.*lr +was 0\.001, now 0\.01"):
        train(settings.model_copy(update={"epochs": 3}))


@pytest.mark.parametrize(
    ("name", "said"), [("network", "would not fit"), ("optimizer", "would not fit"), ("x", "no setting")]
)
def test_what_cannot_be_overridden_is_refused(tmp_path, pictures, name, said):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)
    train(settings)
    with pytest.raises(SettingsError, match=said):
        train(settings.model_copy(update={"network": "lenet5"}), override=(name,))


def test_another_number_of_threads_is_written_down_as_rounding(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)
    with pytest.raises(Interrupted):
        train(settings, track=stopping_after(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        (entry,) = train(settings).last.manifest.resumed
    finally:
        torch.set_num_threads(threads)
    assert entry.equality == "rounding"
    assert entry.because == (f"torch had {threads} threads, now {threads + 1}",)


def test_other_pictures_in_the_folder_are_noticed(tmp_path):
    folder = tmp_path / "pictures"
    for name, level in (("dark", 0), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(np.full((20, 20, 3), level + number, np.uint8)).save(folder / name / f"{number}.png")
    settings = small(tmp_path, f"folder:{folder}", epochs=1)
    train(settings)
    Image.fromarray(np.full((20, 20, 3), 99, np.uint8)).save(folder / "dark" / "0.png")
    with pytest.raises(BundleError, match=r"data +was"):
        train(settings)


def test_a_copy_in_the_background_is_done_before_the_next_update(tmp_path, pictures, monkeypatch):
    """The copy waits for whoever asks for it: were the update not to ask, it would come first and be in the bundle."""
    from cutaway.checkpoints import saving

    common = {"epochs": 1, "save_every": 1, "keep_every": 1}
    train(small(tmp_path / "foreground", f"folder:{pictures}", save_in_background=False, **common))
    asked, copy, copied = threading.Event(), saving._copy, saving.Saver.copied

    def late(pairs):
        if threading.current_thread() is not threading.main_thread():
            asked.wait(3)
            asked.clear()
        return copy(pairs)

    def ask(saver):
        asked.set()
        copied(saver)

    monkeypatch.setattr(saving, "_copy", late)
    monkeypatch.setattr(saving.Saver, "copied", ask)
    train(small(tmp_path / "background", f"folder:{pictures}", **common))
    files = [
        {
            bundle.path.name: bundle.manifest.files["model.safetensors"]
            for bundle in Run(tmp_path / name / "run").bundles()
        }
        for name in ("foreground", "background")
    ]
    assert len(files[0]) == 4
    assert files[0] == files[1]


def test_an_error_between_steps_saves_the_steps_so_far(tmp_path, pictures):
    """As when a picture goes bad: what is trained is kept, and goes on bit for bit once the picture is mended."""

    def broken(items, description, total=None):
        for number, item in enumerate(items):
            if description.startswith("epoch") and number == 3:
                raise DataError("a picture went bad")
            yield item

    whole = small(tmp_path / "whole", f"folder:{pictures}", epochs=1)
    train(whole)
    settings = small(tmp_path / "broken", f"folder:{pictures}", epochs=1)
    with pytest.raises(DataError, match="went bad"):
        train(settings, track=broken)
    assert find(settings.out).manifest.progress.step == 3
    train(settings)
    assert outcome(whole.out) == outcome(settings.out)


def test_an_error_within_a_step_saves_nothing(tmp_path, pictures, monkeypatch):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)

    def fail(*_, **__):
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr("cutaway.train.recipe.losses.F.cross_entropy", fail)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        train(settings)
    assert Run(settings.out).bundle_paths() == []


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_bundle(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=3, optimizer="sgd", lr=100, momentum=0.99, network="lenet5")
    with pytest.raises(CutawayError, match="lower --lr"):
        train(settings)
    for bundle in Run(settings.out).bundles():
        tensors = read_tensors(bundle.path, bundle.manifest, "model")
        assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())


def test_retention_keeps_what_was_asked_for(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=6, lr=1e-6, keep_last=2, keep_every=8, keep_best=1)
    train(settings)
    steps = [bundle.manifest.progress.step for bundle in Run(settings.out).bundles()]
    # Four steps an epoch: 4, 8, 12, 16, 20, 24; with so low a rate the earliest of the equally good is the best.
    best = find(settings.out).manifest.progress.step
    assert steps == sorted({8, 16, 20, 24, best})


def test_a_run_of_a_newer_cutaway_is_refused_and_left_as_it_is(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)
    last = train(settings).last.path
    manifest = json.loads((last / "manifest.json").read_text())
    (last / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    before = sorted(path.name for path in last.parent.iterdir())
    with pytest.raises(BundleError, match="schema 99"):
        train(settings)
    assert sorted(path.name for path in last.parent.iterdir()) == before


def test_where_every_bundle_is_damaged_nothing_begins_anew(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)
    last = train(settings).last.path
    (last / "model.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="All 1 bundles"):
        train(settings)
    assert [path.name for path in last.parent.iterdir()] == [last.name]


@pytest.mark.parametrize("shape", [(1,), (3, 3), (60, 120, 1)])
def test_optimizer_state_of_another_shape_is_refused(shape):
    """Fused optimizers would read and write past its end."""
    from cutaway.checkpoints import optimizer_state

    network = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network(torch.rand(2, 4)).sum().backward()
    optimizer.step()
    tensors, groups = optimizer_state.named_state(network, optimizer)
    tensors["weight/exp_avg"] = torch.zeros(shape)
    with pytest.raises(BundleError, match="weight/exp_avg"):
        optimizer_state.load_named_state(network, torch.optim.AdamW(network.parameters(), fused=True), tensors, groups)


def test_an_overridden_hyper_parameter_is_the_one_that_is_used(tmp_path, pictures):
    common = {"network": "lenet5", "schedule": "constant", "weight_decay": 0.0}
    settings = small(tmp_path, f"folder:{pictures}", epochs=1, **common)
    train(settings)
    changed = settings.model_copy(update={"epochs": 4, "weight_decay": 9.0})
    heavy = train(changed, override=("weight_decay",)).last
    light = train(small(tmp_path / "other", f"folder:{pictures}", epochs=4, **common)).last
    norms = [read_tensors(b.path, b.manifest, "model")["fc1.weight"].norm().item() for b in (heavy, light)]
    assert norms[0] < 0.9 * norms[1]


def test_a_signal_during_the_last_measurement_ends_with_it(tmp_path, pictures):
    settings = small(tmp_path, f"folder:{pictures}", epochs=1)

    def track(items, description, total=None):
        for item in items:
            if description == "evaluating test":
                os.kill(os.getpid(), signal.SIGINT)
            yield item

    with pytest.raises(Interrupted) as stop:
        train(settings, track=track)
    assert stop.value.signum == signal.SIGINT
    assert train(settings).test_accuracy is not None


def test_a_batch_of_one_with_batch_norm_is_refused_in_words(tmp_path, pictures):
    with pytest.raises(SettingsError, match="batch norm"):
        train(small(tmp_path, f"folder:{pictures}", batch_size=1))
    train(small(tmp_path / "without", f"folder:{pictures}", batch_size=1, network="mlp", epochs=1))


def test_a_network_that_cannot_be_drawn_as_a_graph_is_trained_all_the_same(tmp_path, pictures, monkeypatch, capsys):
    """As torchvision's vision transformers, whose traces differ from call to call."""
    from torch.jit._trace import TracingCheckError

    def fail(*_):
        print("noise")  # noqa: T201
        raise TracingCheckError("Graphs differed across invocations!", None)

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_graph", fail)
    notes = []
    train(small(tmp_path, f"folder:{pictures}", epochs=1), on_note=notes.append)
    assert any("no graph" in note for note in notes)
    assert capsys.readouterr().out == ""


def test_the_number_of_threads_is_set_and_put_back(tmp_path, pictures):
    before = torch.get_num_threads()
    trained = train(small(tmp_path, f"folder:{pictures}", epochs=1, threads=before + 1))
    assert trained.last.manifest.environment.threads == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("fails_at", "batch_size", "steps"),
    [(9, 36, [10]), (7, 6, [*range(8, 18)])],
    ids=["larger batches between epochs", "smaller batches within one"],
)
def test_an_overridden_batch_size_leaves_the_schedule_where_it_was(tmp_path, fails_at, batch_size, steps):
    """Steps of two sizes were added up: the linear rate fell below zero, where training climbs the loss."""
    data = (np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8), np.arange(40) % 2)
    settings = TrainSettings(
        network="linear", out=tmp_path / "run", epochs=4, batch_size=12, schedule="linear", warmup_steps=0, lr=1.0
    )
    seen = []

    class Looks(Callback):
        def on_step(self, event):
            seen.append((event.step, event.lr))
            if len(seen) == fails_at:
                raise LookupError

    with pytest.raises(LookupError):
        train(settings, data=data, callbacks=[Looks()])  # 36 pictures: 3 steps an epoch
    before = len(seen)
    train(settings.changed(batch_size=batch_size), data=data, callbacks=[Looks()], override=["batch_size"])
    after = seen[before:]
    assert [step for step, _ in after] == steps
    per_epoch = 36 // batch_size
    left = [(len(after) - at) / (4 * per_epoch) for at in range(len(after))]
    assert [lr for _, lr in after] == pytest.approx(left)


def test_a_save_that_fails_in_the_background_stops_the_run_at_the_next_step(tmp_path, pictures, monkeypatch):
    """Not only when the next bundle is due, which may be an epoch away."""
    from cutaway.checkpoints import saving

    def fail(*_):
        raise BundleError("The disk is gone.")

    seen = []

    class Looks(Callback):
        def on_step(self, event):
            seen.append(event.step)
            for thread in threading.enumerate():
                if thread.name == "cutaway-save":
                    thread.join(30)

    monkeypatch.setattr(saving, "write_bundle", fail)
    with pytest.raises(BundleError, match="The disk is gone"):
        train(small(tmp_path, f"folder:{pictures}", save_every=2), callbacks=[Looks()])
    assert seen == [1, 2, 3]


def test_weights_that_are_no_numbers_are_not_trained_on(tmp_path, pictures):
    from cutaway.checkpoints import write_bundle

    settings = small(tmp_path, f"folder:{pictures}", epochs=1)
    with pytest.raises(Interrupted):
        train(settings, track=stopping_after(2))
    last = find(settings.out)
    names = [name.removesuffix(".safetensors") for name in last.manifest.files]
    tensors = {name: read_tensors(last.path, last.manifest, name) for name in names}
    tensors["model"]["out.bias"][0] = float("nan")
    last.path.rename(tmp_path / "before")
    write_bundle(last.path, last.manifest, tensors)
    descriptions = []

    def track(items, description, total=None):
        descriptions.append(description)
        return iter(items)

    with pytest.raises(BundleError, match=r"'out\.bias' of .* NaN"):
        train(settings, track=track)
    assert not [description for description in descriptions if description.startswith("epoch")]


@pytest.mark.parametrize(
    ("network", "equality"), [("lenet5", "rounding"), ("resnet-small", "statistical")], ids=["exact", "with dropout"]
)
@pytest.mark.parametrize("devices", [("cuda (H100)", "cpu"), ("cpu", "cuda (H100)")], ids=["to cpu", "to cuda"])
def test_what_may_be_said_after_a_move_to_another_device(tmp_path, pictures, monkeypatch, network, equality, devices):
    """Only told to be one: that a bundle of a GPU's computes the same within rounding takes a GPU to see."""
    from cutaway.checkpoints.environment import environment

    arguments = {"network_arguments": {"width": 4, "dropout": 0.5}} if network == "resnet-small" else {}
    settings = small(tmp_path, f"folder:{pictures}", epochs=1, network=network, **arguments)
    here = environment(torch.device("cpu"))
    told = [here.model_copy(update={"device": device}) for device in devices]
    monkeypatch.setattr("cutaway.train.session.environment", lambda _: told[0])
    with pytest.raises(Interrupted):
        train(settings, track=stopping_after(2))
    monkeypatch.setattr("cutaway.train.session.environment", lambda _: told[1])
    (entry,) = train(settings).last.manifest.resumed
    assert (entry.step, entry.equality) == (2, equality)
    assert entry.because == (f"the device was {devices[0]}, now {devices[1]}",)
