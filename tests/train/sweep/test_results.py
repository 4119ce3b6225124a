"""The table of runs: what is in it, in which order, and in a form that harms nobody."""

import csv
import json

import pytest

from cutaway.cli import main
from cutaway.errors import BundleError, SettingsError
from cutaway.settings import TrainSettings, to_yaml
from cutaway.train.sweep.outcomes import Failure, record_failure
from cutaway.train.sweep.results import gather, in_order
from cutaway.train.sweep.results_page import render_page

NASTY = "<script>document.title='x'</script>\"'&"


def write(directory, epochs, final=None, failure=None, **settings):
    """A run's directory as training leaves it, with these epochs in its journal."""
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(to_yaml(TrainSettings(out=directory, **settings)))
    lines = [{"kind": "epoch", "step": n, "epoch": n, "seconds": 2.0} | epoch for n, epoch in enumerate(epochs, 1)]
    if final is not None:
        lines.append({"kind": "final", "step": len(epochs)} | final)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if failure:
        record_failure(directory, failure)


def epoch(accuracy, loss=1.0):
    return {"valid_accuracy": accuracy, "valid_loss": loss, "lr": 0.1}


@pytest.fixture
def runs(tmp_path):
    """Five runs: one is better late, one early; one has NaN, one failed before its first epoch, one is at work."""
    out = tmp_path / "sweep"
    write(out / "a", [epoch(0.5, 0.9), epoch(0.7, 0.8)], {"test_accuracy": 0.6, "test_loss": 0.5}, lr=0.1)
    write(out / "b", [epoch(0.9, 0.3), epoch(0.2, 0.1)], {"test_accuracy": 0.8, "test_loss": 0.4}, lr=0.01)
    write(out / "c", [epoch("nan", "inf"), epoch("nan", "nan")], {"test_accuracy": "nan"}, lr=0.02)
    write(out / "d", [], failure=Failure(f"={NASTY}", "Give less."), lr=0.03, network="mlp", data=f"folder:{NASTY}")
    write(out / "e", [epoch(0.8)], lr=0.04, network="resnet-small", network_arguments={"width": 8})
    return out


def names(results):
    return [row.name for row in results.rows]


def test_a_row_tells_of_the_best_epoch_and_the_test_split(runs):
    rows = {row.name: row for row in gather(runs).rows}
    assert rows["b"].metrics == {
        "valid_accuracy": 0.9,
        "valid_loss": 0.3,
        "test_accuracy": 0.8,
        "test_loss": 0.4,
        "best_epoch": 1.0,
        "trained_epochs": 2.0,
        "seconds": 4.0,
    }
    assert rows["a"].metrics["best_epoch"] == 2
    assert {name: row.state for name, row in rows.items()} == {
        "a": "finished",
        "b": "finished",
        "c": "finished",
        "d": "failed",
        "e": "unfinished",
    }


def test_the_best_epoch_is_that_of_the_runs_own_monitor(tmp_path):
    write(tmp_path / "sweep/a", [epoch(0.9, 0.3), epoch(0.2, 0.1)], {}, monitor="valid_loss")
    write(tmp_path / "sweep/b", [epoch(0.9, 0.2), epoch(0.2, 0.3)], {}, monitor="valid_loss")
    results = gather(tmp_path / "sweep")
    assert {row.name: row.metrics["best_epoch"] for row in results.rows} == {"a": 2.0, "b": 1.0}
    assert results.sorted_by == "valid_loss"
    assert names(results) == ["a", "b"]  # the lower loss first


def test_rows_are_sorted_by_any_column_and_what_is_missing_comes_last(runs):
    results = gather(runs)
    assert names(results) == ["b", "e", "a", "c", "d"]
    assert names(in_order(results, "valid_accuracy", reverse=True)) == ["a", "e", "b", "c", "d"]
    assert names(in_order(results, "test_loss"))[:2] == ["b", "a"]
    assert names(in_order(results, "valid-loss")) == ["b", "a", "e", "c", "d"]  # inf is no good, and still a number
    assert names(in_order(results, "lr")) == ["b", "c", "d", "e", "a"]
    assert names(in_order(results, "network"))[-1] == "e"
    with pytest.raises(SettingsError) as error:
        in_order(results, "valid_acuracy")
    assert "'valid_accuracy'" in error.value.hint
    with pytest.raises(SettingsError) as error:
        in_order(results, "valid_acc")  # spelt like valid_auroc, but short for valid_accuracy
    assert error.value.hint == "Did you mean 'valid_accuracy'?"


def test_only_settings_that_vary_have_a_column(runs):
    assert set(gather(runs).varying) == {"data", "network", "network_arguments.width", "lr"}


def test_what_people_look_at_first_stands_before_the_other_metrics(tmp_path):
    others = {f"valid_{name}": 0.5 for name in ("macro_f1", "auroc", "ece")}
    write(tmp_path / "sweep/a", [epoch(0.9) | others], {"test_accuracy": 0.8, "test_loss": 1.0}, monitor="valid_ece")
    first = ["valid_ece", "valid_accuracy", "valid_loss", "test_accuracy", "test_loss", "best_epoch", "seconds"]
    assert list(gather(tmp_path / "sweep").metrics) == [*first, "valid_macro_f1", "valid_auroc", "trained_epochs"]


def test_a_directory_without_runs_says_so(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match="holds no runs"):
            gather(place)


def test_a_torn_journal_and_record_are_no_traceback(runs):
    (runs / "a/metrics.jsonl").write_text('{"kind": "epoch", "step": 1, "valid_accuracy": 0.5}\n{"kind": "ep')
    (runs / "d/failed.json").write_text('{"mess')
    (runs / "e/config.yaml").write_text("no: [")
    rows = {row.name: row for row in gather(runs).rows}
    assert rows["a"].metrics["valid_accuracy"] == 0.5
    assert "cannot be read" in rows["d"].failure
    assert rows["e"].metrics["valid_accuracy"] == 0.8


def test_csv_holds_every_run_and_no_formula(runs, tmp_path, capsys):
    assert main(["sweep", "show", str(runs), "--csv", str(tmp_path / "t.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").open(newline="")))
    assert [row["run"] for row in rows] == ["b", "e", "a", "c", "d"]
    assert [row["valid_accuracy"] for row in rows] == ["0.9", "0.8", "0.7", "nan", ""]
    assert rows[-1]["failure"].startswith("'=<script>")
    assert rows[0]["lr"] == "0.01"


def test_json_is_json(runs, capsys):
    assert main(["sweep", "show", str(runs), "--json", "--sort", "lr"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [run["name"] for run in told["runs"]] == ["b", "c", "d", "e", "a"]
    assert told["sorted_by"] == "lr"
    assert told["runs"][1]["metrics"]["valid_accuracy"] == "nan"
    assert told["runs"][2]["failure"].endswith("Give less.")


def test_the_terminal_shows_a_table(runs, capsys):
    assert main(["sweep", "show", str(runs)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[-3:] == ["best_epoch", "seconds", "state"]
    assert shown[1].split()[-1] == "finished"
    assert shown[6].startswith("failed: d: =<script>")


def test_a_stranger_s_strings_do_not_become_html(runs, tmp_path):
    page = render_page(gather(runs))
    assert "<script>document" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;document.title=&#39;x&#39;&lt;/script&gt;&#34;" in page
    assert "http" not in page.replace("http-equiv", "")
