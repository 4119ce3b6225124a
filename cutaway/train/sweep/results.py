"""The runs of a directory side by side: what differs between them, and what it led to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from cutaway.checkpoints import Run
from cutaway.errors import BundleError, SettingsError
from cutaway.settings import TrainSettings, read_yaml, validated
from cutaway.settings.near_names import near_names
from cutaway.settings.sweep import Values, read_sweep
from cutaway.settings.watching import MODES
from cutaway.train.monitoring import monitored
from cutaway.train.sweep.conducting import SWEEP_FILE, located
from cutaway.train.sweep.outcomes import State, failure_of, metrics_of, state_of
from cutaway.train.sweep.plan import expand

# What a terminal has room for, and what stands first where there is room for all.
LOOKED_AT_FIRST = ("valid_accuracy", "valid_loss", "test_accuracy", "test_loss", "best_epoch", "seconds")
# Of what a run measures beside the metrics of an epoch.
_LOWER_IS_BETTER = ("best_epoch", "trained_epochs", "seconds")


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        name: Of its directory.
        state: How far it came.
        settings: All of them but `out`; those that have parts, such as `network_arguments`, by their parts.
        metrics: What it measured; empty before its first epoch.
        failure: Why it failed; empty where it did not.
        is_planned: Whether the sweep's file names it still.
    """

    name: str
    state: State
    settings: Values
    metrics: Mapping[str, float]
    failure: str = ""
    is_planned: bool = True


@dataclass(frozen=True)
class Results:
    """Runs to compare.

    Attributes:
        directory: Where they are.
        rows: In the order that was asked for.
        varying: Settings that are not the same in all of them.
        metrics: Names, in the order in which people look at them.
        lower_is_better: Those of `metrics` of which less is better.
        sorted_by: The metric or setting that decides the order.
    """

    directory: Path
    rows: tuple[Row, ...]
    varying: tuple[str, ...]
    metrics: tuple[str, ...]
    lower_is_better: frozenset[str]
    sorted_by: str

    def best(self, metric: str) -> float | None:
        """The best value of a metric; None where no run has one."""
        values = [row.metrics[metric] for row in self.rows if _is_number(row.metrics.get(metric))]
        return (min if metric in self.lower_is_better else max)(values, default=None)


def gather(directory: Path) -> Results:
    """Reads the runs of a sweep's directory, or of any directory that has runs in it.

    Raises:
        BundleError: There are none.
    """
    rows: list[Row] = []
    seen: set[Path] = set()
    chosen_by: TrainSettings | None = None
    if (directory / SWEEP_FILE).is_file():
        # The directory may have been moved since.
        sweep = read_sweep(directory / SWEEP_FILE).model_copy(update={"out": directory})
        for run in located(expand(sweep), directory).runs:
            chosen_by = chosen_by or run.settings
            rows.append(_row(run.settings.out, run.settings))
            seen.add(run.settings.out)
    others = directory.iterdir() if directory.is_dir() else ()
    for path in sorted(path for path in others if path not in seen and Run(path).configuration.is_file()):
        rows.append(_row(path, None, is_planned=not seen))
    if not rows:
        raise BundleError(f"{directory} holds no runs.", hint="Name the directory of a sweep, or one with runs in it.")
    by = monitored(chosen_by or _settings_of(directory / rows[0].name)[1] or TrainSettings())
    measured = dict.fromkeys(name for row in rows for name in row.metrics)
    names = tuple(dict.fromkeys(name for name in (by.metric, *LOOKED_AT_FIRST, *measured) if name in measured))
    lower = {name for name in names if name in _LOWER_IS_BETTER or _mode(name) == "min"} - {by.metric}
    results = Results(
        directory=directory,
        rows=tuple(rows),
        varying=_varying(rows),
        metrics=names,
        lower_is_better=frozenset(lower | ({by.metric} if by.mode == "min" else set())),
        sorted_by=by.metric,
    )
    return in_order(results, by.metric) if by.metric in names else results


def in_order(results: Results, by: str, *, reverse: bool = False) -> Results:
    """The rows sorted by a metric, the best first, or by a setting. What is missing or NaN comes last either way.

    Raises:
        SettingsError: There is no such metric or setting.
    """
    name = by.replace("-", "_")
    known = [*results.metrics, *dict.fromkeys(name for row in results.rows for name in row.settings)]
    if name not in known:
        near = near_names(name, known)
        hint = f"Did you mean '{near[0]}'?" if near else f"Metrics are {', '.join(results.metrics)}."
        raise SettingsError(f"There is no metric or setting named '{by}' to sort by.", hint=hint)
    values = [row.metrics.get(name) if name in results.metrics else row.settings.get(name) for row in results.rows]
    there = [at for at, value in enumerate(values) if value is not None and value == value]
    missing = [at for at in range(len(values)) if at not in set(there)]
    descends = (name in results.metrics and name not in results.lower_is_better) != reverse
    there.sort(key=lambda at: _comparable(values[at]), reverse=descends)
    return replace(results, rows=tuple(results.rows[at] for at in there + missing), sorted_by=name)


def _mode(metric: str) -> str:
    """Whether more or less of it is better, which of the test split is as of the validation split."""
    return MODES.get(metric.replace("test_", "valid_", 1) if metric.startswith("test_") else metric, "max")


def _row(path: Path, planned: TrainSettings | None, *, is_planned: bool = True) -> Row:
    written, settings = _settings_of(path)
    state = state_of(path)
    failure = failure_of(path) if state == "failed" else None
    plain = planned.model_dump(mode="json") if planned else settings.model_dump(mode="json") if settings else written
    return Row(
        name=path.name,
        state=state,
        settings=_flat(plain),
        metrics=metrics_of(Run(path), planned or settings),
        failure=str(failure or ""),
        is_planned=is_planned,
    )


def _settings_of(path: Path) -> tuple[dict[str, Any], TrainSettings | None]:
    """A run's settings as they are written, and validated where this version takes them."""
    written: dict[str, Any] = {}
    try:
        written = read_yaml(Run(path).configuration)
        return written, validated(written)
    except SettingsError:
        return written, None


def _flat(settings: Mapping[str, Any]) -> Values:
    flat: Values = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{part}": content for part, content in value.items()}
        elif name != "out":
            flat[name] = value
    return flat


def _varying(rows: Iterable[Row]) -> tuple[str, ...]:
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row.settings)
    return tuple(name for name in names if len({json.dumps(row.settings.get(name), default=str) for row in rows}) > 1)


def _comparable(value: JsonValue) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return (0, float(value), "")
    return (1, 0.0, value if isinstance(value, str) else json.dumps(value))


def _is_number(value: float | None) -> bool:
    return value is not None and value == value
