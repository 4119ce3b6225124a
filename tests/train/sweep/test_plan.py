"""Which runs a sweep's file stands for, worked out by hand."""

import math
import re

import pytest

from cutaway.errors import SettingsError
from cutaway.settings.sweep import read_sweep, sweep_of, sweep_to_yaml
from cutaway.train.sweep import expand
from cutaway.train.sweep.plan import draw, key_of


def overrides(values):
    return [run.overrides for run in expand(sweep_of(values)).runs]


def keys(values):
    return [run.key for run in expand(sweep_of(values)).runs]


def test_a_grid_gives_every_combination_over_the_base():
    plan = expand(sweep_of({"base": {"epochs": 3}, "grid": {"network": ["mlp", "lenet5"], "lr": [0.01, 0.1]}}))
    assert [run.overrides for run in plan.runs] == [
        {"lr": 0.01, "network": "mlp"},
        {"lr": 0.1, "network": "mlp"},
        {"lr": 0.01, "network": "lenet5"},
        {"lr": 0.1, "network": "lenet5"},
    ]
    assert [run.number for run in plan.runs] == [1, 2, 3, 4]
    assert {run.settings.epochs for run in plan.runs} == {3}
    assert plan.runs[1].settings.lr == 0.1


def test_runs_come_on_top_of_each_grid_point_with_each_draw():
    values = {
        "grid": {"network": ["mlp", "lenet5"]},
        "random": {"count": 2, "seed": 5, "lr": {"uniform": [0.1, 0.2]}},
        "runs": [{"batch_size": 7}, None],
    }
    first, second = (entry["lr"] for entry in draw(sweep_of(values).random))
    assert overrides(values) == [
        {"lr": first, "network": "mlp"},
        {"lr": first, "network": "lenet5"},
        {"lr": second, "network": "mlp"},
        {"lr": second, "network": "lenet5"},
        {"batch_size": 7},
        {},
    ]


def test_parts_of_a_setting_join_those_of_the_base():
    values = {
        "base": {"network": "resnet-small", "network_arguments": {"dropout": 0.5, "width": 8}},
        "grid": {"network-arguments.width": [16, 32]},
        "runs": [{"network": "lenet5", "network_arguments": {}}],
    }
    runs = expand(sweep_of(values)).runs
    assert [run.settings.network_arguments for run in runs] == [
        {"dropout": 0.5, "width": 16},
        {"dropout": 0.5, "width": 32},
        {},
    ]
    assert runs[0].overrides == {"network_arguments.width": 16}


def test_draws_are_the_same_for_ever_and_whatever_stands_beside_them():
    lr = {"log_uniform": [1e-4, 1e-1]}
    smoothing = {"uniform": [0, 0.2]}
    alone = draw(sweep_of({"random": {"count": 3, "seed": 1, "lr": lr}}).random)
    # sha256sum of "1/lr/0" begins with 464bf8aa9e30b80d: 0.2746 of the way from 1e-4 up three powers of ten.
    assert alone[0] == {"lr": 0.000666485}
    assert alone[1] == {"lr": 0.00198038}
    beside = draw(sweep_of({"random": {"label_smoothing": smoothing, "lr": lr, "count": 5, "seed": 1}}).random)
    assert [entry["lr"] for entry in beside][:3] == [entry["lr"] for entry in alone]
    other = draw(sweep_of({"random": {"count": 3, "seed": 2, "lr": lr}}).random)
    assert [entry["lr"] for entry in other] != [entry["lr"] for entry in alone]


def test_draws_spread_as_their_distributions_say():
    values = {
        "count": 4000,
        "lr": {"log_uniform": [1e-4, 1e-1]},
        "label_smoothing": {"uniform": [0, 0.2]},
        "batch_size": {"integers": [3, 6]},
        "network": {"choice": ["mlp", "lenet5"]},
    }
    draws = draw(sweep_of({"random": values}).random)
    decades = [math.floor(math.log10(entry["lr"])) for entry in draws]
    assert all(abs(decades.count(decade) / 4000 - 1 / 3) < 0.03 for decade in (-4, -3, -2))
    smoothing = [entry["label_smoothing"] for entry in draws]
    assert 0 <= min(smoothing) < 0.001
    assert 0.199 < max(smoothing) < 0.2
    assert abs(sum(smoothing) / 4000 - 0.1) < 0.003
    sizes = [entry["batch_size"] for entry in draws]
    assert all(abs(sizes.count(size) / 4000 - 1 / 4) < 0.03 for size in (3, 4, 5, 6))
    assert set(sizes) == {3, 4, 5, 6}
    assert abs([entry["network"] for entry in draws].count("mlp") / 4000 - 1 / 2) < 0.03


def test_a_run_keeps_its_name_in_any_order_and_company():
    grid = {"base": {"epochs": 3}, "grid": {"lr": [0.01, 0.1], "network": ["mlp", "lenet5"]}}
    turned = {"grid": {"network": ["lenet5", "fashion-cnn", "mlp"], "lr": [0.1, 0.01]}, "base": {"epochs": 3}}
    names = {run.name for run in expand(sweep_of(grid)).runs}
    assert "lr=0.01,network=mlp-" + keys({"runs": [{"network": "mlp", "lr": 0.01, "epochs": 3}]})[0] in names
    assert names < {run.name for run in expand(sweep_of(turned)).runs}


def test_a_key_counts_what_the_result_depends_on():
    plain = keys({"runs": [{"lr": 0.01}]})
    assert keys({"base": {"lr": 0.01}, "runs": [{}]}) == plain
    assert keys({"base": {"workers": 2, "device": "cpu"}, "runs": [{"lr": "1e-2"}]}) == plain
    assert keys({"base": {"batch_size": 128}, "runs": [{"lr": 0.01}]}) == plain  # the default
    assert keys({"base": {"batch_size": 64}, "runs": [{"lr": 0.01}]}) != plain
    # Workers change no result, but a sweep over them is a sweep.
    assert len(set(keys({"grid": {"workers": [0, 1, 2]}}))) == 3


def test_a_run_named_twice_is_one():
    plan = expand(sweep_of({"grid": {"lr": [0.003, 0.01]}, "runs": [{"lr": 0.01}, {}]}))
    assert [run.overrides for run in plan.runs] == [{"lr": 0.003}, {"lr": 0.01}]
    assert plan.num_repeated == 2


def test_names_are_harmless_and_tell_of_the_run():
    long = 'folder:/../ "a|b" <c>?*\\ \x1b[31m\n' + "é" * 300
    runs = expand(sweep_of({"out": "s", "runs": [{"data": long}, {"data": long + "x"}, {"data": ".."}]})).runs
    assert len({run.name for run in runs}) == 3
    for run in runs:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+=,-]{1,115}", run.name)
        assert run.settings.out.parts == ("s", run.name)
        assert key_of(run.settings.out) == run.key
    assert runs[0].settings.data == long
    assert runs[0].name.startswith("data=folder-..-a-b-c-31m-")


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({}, "has no runs", "grid"),
        ({"gird": {"lr": [1]}}, "'gird'", "'grid'"),
        ({"lr": 0.1, "runs": [{}]}, "no setting named 'lr'", "under 'base'"),
        ({"grid": {"lr": 0.1}}, "'grid.lr' cannot be 0.1", "list"),
        ({"grid": {"lr": [0.1, -1]}}, "Run 2 (lr=-1): Setting 'lr' cannot be -1", "greater than 0"),
        ({"grid": {"learning-rate": [1]}}, "Run 1 (learning_rate=1): There is no setting named 'learning_rate'", ""),
        ({"runs": [{"lr": 0.1}, {"netwrk": "mlp"}]}, "Run 2 (netwrk=mlp): There is no setting", "'network'"),
        ({"runs": [{"lr.low": 1}]}, "Run 1 (lr.low=1): 'lr' has no parts", ""),
        ({"runs": [{}], "base": {"out": "x"}}, "'out' cannot be set for a run", "beside 'base'"),
        ({"grid": {"lr": [1]}, "random": {"count": 1, "lr": {"choice": [1]}}}, "'lr' stands in the grid and", ""),
        ({"random": {"lr": {"uniform": [0, 1]}}}, "'random.count' is missing", ""),
        ({"random": {"count": 1, "lr": {"uniform": [1, 0]}}}, "'random.lr' cannot be", "the lower one first"),
        ({"random": {"count": 1, "lr": {"log_uniform": [0, 1]}}}, "'random.lr' cannot be", "above zero"),
        ({"random": {"count": 1, "lr": {"unifrom": [0, 1]}}}, "'random.lr.unifrom'", "'uniform'"),
        ({"random": {"count": 1, "lr": {}}}, "'random.lr' cannot be", "one of uniform"),
        ({"random": {"count": 1, "lr": {"uniform": [0, float("inf")]}}}, "cannot be inf", "finite"),
        ({"grid": {"seed": list(range(200)), "lr": [1] * 100}}, "20,000 runs", "at random"),
        ({"grid": {1: [2]}}, "1 under 'grid'", ""),
    ],
)
def test_what_cannot_be_is_told_of_the_run_and_the_setting(values, said, hint):
    with pytest.raises(SettingsError) as error:
        expand(sweep_of(values))
    assert said in error.value.message
    assert hint in error.value.hint


def test_a_file_is_read_and_written_alike(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "out: there\nbase: {batch-size: 7}\ngrid:\n  lr: [1e-2, 0.1]\n"
        "random: {count: 2, weight-decay: {choice: [0, 0.1]}}\nruns:\n- network: mlp\n-\n"
    )
    sweep = read_sweep(file)
    assert sweep.base == {"batch_size": 7}
    again = tmp_path / "again.yaml"
    again.write_text(sweep_to_yaml(sweep))
    assert expand(read_sweep(again)) == expand(sweep)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grid: {lr: 1}", "sweep.yaml: Setting 'grid.lr'"),
        ("- a", "sweep.yaml is not a mapping"),
        ("a: [", "sweep.yaml is not valid YAML"),
        ("grid: {lr: &a [1], wd: *a}", "sweep.yaml is not valid YAML"),
        ("grid: {lr: [!!python/object/apply:os.getcwd []]}", "sweep.yaml is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text, said, tmp_path):
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(SettingsError) as error:
        read_sweep(tmp_path / "sweep.yaml")
    assert said in error.value.message
