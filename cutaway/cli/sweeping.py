"""`cutaway sweep` and `cutaway sweep show`."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from cutaway.cli import printable
from cutaway.cli.arguments import parse
from cutaway.cli.terminal import formula_safe, say, say_json, say_table, without_nan
from cutaway.errors import CutawayError, SettingsError

if TYPE_CHECKING:
    from cutaway.train.sweep import Changes, Failure, Plan, PlannedRun
    from cutaway.train.sweep.results import Results


@dataclass(frozen=True)
class SweepOptions:
    """Train every run of a sweep file, or go on with those that are not finished. Finished runs are not repeated."""

    file: tyro.conf.Positional[Path]
    """A YAML file with base, grid, random and runs."""
    out: Path | None = None
    """The sweep's directory, instead of the file's `out`."""
    jobs: int = 1
    """Runs at a time, each in a process with its share of the cores."""
    retry: bool = False
    """Try those runs again that failed before."""
    allow_code: tuple[str, ...] = ()
    """Modules that a network python:MODULE:FACTORY may be imported from."""
    dry_run: bool = False
    """Say which runs there are and train none."""


@dataclass(frozen=True)
class ShowOptions:
    """Compare the runs of a sweep, or of any directory with runs in it."""

    directory: tyro.conf.Positional[Path]
    """The sweep's directory."""
    sort: str | None = None
    """A metric, the best first, or a setting; by default the metric that chooses the best bundle."""
    reverse: bool = False
    """The other way round."""
    all_metrics: bool = False
    """Print every metric; CSV, JSON and HTML hold them in any case."""
    json: bool = False
    """Print JSON."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write a CSV file."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write an HTML file that stands alone and sorts by a click."""


def run_sweep(arguments: Sequence[str]) -> None:
    """Trains the runs, tells of each in a line, and shows how they compare."""
    options = parse(SweepOptions, "sweep", arguments)
    if options.jobs < 1:
        raise SettingsError(f"--jobs must be at least 1, not {options.jobs}.")
    from cutaway.settings.sweep import read_sweep

    settings = read_sweep(options.file)
    if options.out is not None:
        settings = settings.model_copy(update={"out": options.out})
    from cutaway.train.sweep import expand, in_short, sweep
    from cutaway.train.sweep.results import gather

    if options.dry_run:
        plan = expand(settings)
        say_table(["", "run", "directory"], [[run.number, in_short(run.overrides), run.name] for run in plan.runs])
        return
    with ExitStack() as stack:
        failed = sweep(
            settings, jobs=options.jobs, retry=options.retry, allow_code=options.allow_code, watcher=_teller(stack)
        )
    results = gather(settings.out)
    _show_table(results)
    say(f"next: cutaway sweep show {settings.out} --html sweep.html, tensorboard --logdir {settings.out}")
    if failed:
        count = f"{len(failed)} of {len(results.rows)} runs failed"
        raise CutawayError(f"{count}, run {failed[0].number} first.", hint="--retry tries them again.")


def run_show(arguments: Sequence[str]) -> None:
    """Prints the runs side by side, or writes them into files."""
    options = parse(ShowOptions, "sweep show", arguments)
    from cutaway.train.sweep.results import gather, in_order

    results = gather(options.directory)
    if options.sort is not None or options.reverse:
        results = in_order(results, options.sort or results.sorted_by, reverse=options.reverse)
    if options.csv is not None:
        options.csv.write_text(_as_csv(results), encoding="utf-8")
    if options.html is not None:
        from cutaway.train.sweep.results_page import render_page

        options.html.write_text(render_page(results), encoding="utf-8")
    if options.json:
        say_json(_as_json(results))
    elif options.csv is None and options.html is None:
        _show_table(results, all_metrics=options.all_metrics)
    else:
        say(f"wrote {' and '.join(str(path) for path in (options.csv, options.html) if path is not None)}")


def _show_table(results: Results, *, all_metrics: bool = False) -> None:
    """The table for people; why runs failed stands below it."""
    from cutaway.train.sweep.results import LOOKED_AT_FIRST

    metrics = [n for n in results.metrics if all_metrics or n in LOOKED_AT_FIRST or n == results.sorted_by]
    rows = []
    for row in results.rows:
        state = row.state if row.is_planned else f"{row.state}, no longer in the sweep"
        values: list[Any] = [_plain(row.settings.get(name)) for name in results.varying]
        rows.append([*values, *(_number(row.metrics.get(name)) for name in metrics), state])
    say_table([*results.varying, *metrics, "state"], rows)
    for row in results.rows:
        if row.failure:
            say(f"failed: {row.name}: {row.failure}")


def _as_json(results: Results) -> dict[str, Any]:
    return {
        "sweep": str(results.directory),
        "sorted_by": results.sorted_by,
        "varying": results.varying,
        "runs": [
            {
                "name": row.name,
                "path": str(results.directory / row.name),
                "state": row.state,
                "in_sweep": row.is_planned,
                "settings": row.settings,
                "metrics": without_nan(row.metrics),
                "failure": row.failure or None,
            }
            for row in results.rows
        ],
    }


def _as_csv(results: Results) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([formula_safe(name) for name in ("run", "state", *results.varying, *results.metrics, "failure")])
    for row in results.rows:
        values = [row.settings.get(name) for name in results.varying]
        cells = [row.name, row.state, *values, *(row.metrics.get(name) for name in results.metrics), row.failure]
        writer.writerow([formula_safe(_plain(cell)) if isinstance(_plain(cell), str) else cell for cell in cells])
    return text.getvalue()


def _plain(value: Any) -> Any:
    """A setting as a cell: numbers stay numbers, and None is empty."""
    if value is None:
        return ""
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)


def _number(value: float | None) -> Any:
    if value is None:
        return ""
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _teller(stack: ExitStack) -> Any:
    """Tells of each run in a line, and shows on a terminal how far the runs in hand are."""
    from cutaway.checkpoints import Run
    from cutaway.train.sweep import Watcher, in_short
    from cutaway.train.sweep.outcomes import metrics_of

    class Teller(Watcher):
        """A line for each run, and a bar for each process."""

        def __init__(self) -> None:
            self._total = 0
            self._bars: dict[int, TaskID] = {}
            columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20)]
            screen = Console(stderr=True)
            self._progress = Progress(*columns, MofNCompleteColumn(), console=screen, transient=True)
            if sys.stderr.isatty():
                stack.enter_context(self._progress)

        def begins(self, plan: Plan, pending: Sequence[PlannedRun], changes: Changes | None) -> None:
            self._total = len(plan.runs)
            repeated = f" {plan.num_repeated} more are the same as one of these." if plan.num_repeated else ""
            done = f", {self._total - len(pending)} of them done" if len(pending) < self._total else ""
            say(f"{self._total} runs{done}.{repeated}")
            if changes is not None:
                new = "; ".join(in_short(run.overrides) for run in changes.new) or "none"
                say(f"The sweep's file has changed. New: {new}.")
                if changes.gone:
                    say(f"No longer in it, and left as they are: {'; '.join(changes.gone)}.")

        def run_notes(self, run: PlannedRun, text: str) -> None:
            print(printable(f"run {run.number}: {text}"), file=sys.stderr)

        def progress(self, slot: int, what: str, done: int, total: int | None) -> None:
            if not sys.stderr.isatty():
                return
            if slot not in self._bars:
                self._bars[slot] = self._progress.add_task("")
            self._progress.update(self._bars[slot], description=printable(what), completed=done, total=total)

        def run_ends(self, run: PlannedRun, failure: Failure | None) -> None:
            head = f"run {run.number:>{len(str(self._total))}}/{self._total}  {in_short(run.overrides)}"
            if failure is not None:
                say(f"{head}  failed: {failure}")
                return
            metrics = metrics_of(Run(run.settings.out), run.settings)
            shown = [f"{name} {metrics[name]:.4g}" for name in [*list(metrics)[:2], "test_accuracy"] if name in metrics]
            say("  ".join([head, *dict.fromkeys(shown)]))

    return Teller()
