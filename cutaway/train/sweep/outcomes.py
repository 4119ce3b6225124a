"""What a run's directory says of the run: how far it came, and what it measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cutaway.checkpoints import Run
from cutaway.durable import make_directory, replace_text
from cutaway.errors import SettingsError
from cutaway.settings import TrainSettings, read_yaml
from cutaway.train.monitoring import monitored

State = Literal["finished", "failed", "unfinished", "not begun"]

_PARTS = ("valid_", "test_", "train_")


@dataclass(frozen=True)
class Failure:
    """Why a run came to no end of its own.

    Attributes:
        message: A sentence.
        hint: What to do next; may be empty.
        traceback: Where it happened, where it was no error in words.
    """

    message: str
    hint: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def state_of(directory: Path) -> State:
    """How far a run came, from nothing but its own directory."""
    run = Run(directory)
    if run.is_finished():
        return "finished"
    if _record(directory).exists():
        return "failed"
    return "unfinished" if run.configuration.exists() or run.bundle_paths() else "not begun"


def is_to_measure(settings: TrainSettings) -> bool:
    """Whether a finished run is asked for a measurement over several views that it was not asked for before."""
    if settings.tta == "none":
        return False
    run = Run(settings.out)
    try:
        before = read_yaml(run.configuration).get("tta")
    except SettingsError:
        return False
    final = run.journal()[-1]
    return (
        before != settings.tta and "test_accuracy" in final
    )  # where there are no test pictures, there is nothing to do


def failure_of(directory: Path) -> Failure | None:
    """What `record_failure` wrote; None where nothing was, or the run came to its end since."""
    try:
        written = json.loads(_record(directory).read_text(encoding="utf-8", errors="replace"))
        return Failure(str(written["message"]), str(written.get("hint", "")), str(written.get("traceback", "")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Failure("What was written of its failure cannot be read.")


def record_failure(directory: Path, failure: Failure) -> None:
    """Writes into a run's directory why it failed."""
    make_directory(directory)
    written = {"message": failure.message, "hint": failure.hint, "traceback": failure.traceback}
    written["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    replace_text(_record(directory), json.dumps(written, indent=2) + "\n")


def forget_failure(directory: Path) -> None:
    """Takes back `record_failure`, for a run that is tried again."""
    _record(directory).unlink(missing_ok=True)


def metrics_of(run: Run, settings: TrainSettings | None) -> dict[str, float]:
    """What a run measured, in the order in which people look at it.

    Args:
        run: Finished or not.
        settings: Its settings, which say by what metric an epoch is the best; None where they cannot be read.

    Returns:
        Every metric of the best epoch, those of the test split, which epoch that was, and over all epochs their number
        and the seconds of training. Empty before the first epoch's end.
    """
    entries = run.journal()
    epochs = [_numbers(entry) for entry in entries if entry["kind"] == "epoch"]
    if not epochs:
        return {}
    by = monitored(settings or TrainSettings())
    sign = 1 if by.mode == "max" else -1
    best = max(epochs, key=lambda epoch: _rank(sign * epoch.get(by.metric, float("nan"))))
    final = _numbers(entries[-1]) if entries[-1]["kind"] == "final" else {}
    measured = best | {name: value for name, value in final.items() if name.startswith(_PARTS)}
    names = sorted(
        (name for name in measured if name.startswith(_PARTS)),
        key=lambda name: (name != by.metric, [name.startswith(part) for part in _PARTS].index(True)),
    )
    return {name: measured[name] for name in names} | {
        "best_epoch": best.get("epoch", float("nan")),
        "trained_epochs": float(len(epochs)),
        "seconds": sum(epoch.get("seconds", 0.0) for epoch in epochs),
    }


def _record(directory: Path) -> Path:
    return directory / "failed.json"


def _rank(value: float) -> float:
    return value if value == value else float("-inf")


def _numbers(entry: dict[str, Any]) -> dict[str, float]:
    """The entry's numbers; the journal writes NaN and infinities as words."""
    numbers = {}
    for name, value in entry.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or value in ("nan", "inf", "-inf"):
            numbers[name] = float(value)
    return numbers
