"""What a run tells while it trains: CSV and JSON lines for programs, TensorBoard for people."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from cutaway.checkpoints import Run
from cutaway.checkpoints.durable import replace_text


@dataclass(frozen=True)
class EpochMetrics:
    """An epoch in numbers.

    Attributes:
        epoch: 1 for the first.
        step: Steps since the run began.
        lr: Learning rate of the epoch's last step.
        train_loss: Mean over the epoch's samples, in nats, as the weights changed.
        train_accuracy: Likewise.
        valid_loss: Over the validation split, after the epoch.
        valid_accuracy: Likewise.
        seconds: Time in training steps, without validation and saving; of this process alone after a resume.
        images_per_second: Training throughput of the same time; None where the process trained nothing of the epoch.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    images_per_second: float | None


class Journal:
    """Appends to a run's metrics files.

    Lines are whole or absent after a crash but for the last, which reading leaves out. Resuming takes back what was
    written after the bundle that the run goes on from.

    Args:
        run: The run.
        step: The step of the bundle that the run goes on from; 0 at the beginning.
        epoch: Whole epochs at that point.
    """

    def __init__(self, run: Run, *, step: int = 0, epoch: int = 0) -> None:
        kept = [line for line in run.journal() if line["step"] <= step and line.get("epoch", 0) <= epoch]
        kept = [entry for entry in kept if entry["kind"] != "final"]
        replace_text(run.metrics_jsonl, "".join(_line(entry) for entry in kept))
        epochs = [entry for entry in kept if entry["kind"] == "epoch"]
        replace_text(run.metrics_csv, _csv([{k: v for k, v in entry.items() if k != "kind"} for entry in epochs]))
        self._lines: TextIO = run.metrics_jsonl.open("a", encoding="utf-8")
        self._table: TextIO = run.metrics_csv.open("a", encoding="utf-8", newline="")

    def step(self, step: int, *, loss: float, lr: float) -> None:
        """Notes one training step."""
        self._lines.write(_line({"kind": "step", "step": step, "loss": loss, "lr": lr}))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Notes a whole epoch and puts everything on disk."""
        values = asdict(metrics)
        self._lines.write(_line({"kind": "epoch"} | values))
        self._table.write(_csv([values], header=False))
        self.sync()

    def final(self, step: int, values: Mapping[str, float]) -> None:
        """Notes what is measured once, after the last epoch."""
        self._lines.write(_line({"kind": "final", "step": step} | dict(values)))
        self.sync()

    def sync(self) -> None:
        """Puts everything on disk, so that no committed bundle is ahead of the journal."""
        for file in (self._lines, self._table):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._table.close()


def _line(entry: Mapping[str, Any]) -> str:
    # NaN and infinities as strings: they are no JSON, and null would lose which it was.
    plain = {k: v if not isinstance(v, float) or abs(v) < float("inf") else str(v) for k, v in entry.items()}
    return json.dumps(plain) + "\n"


def _csv(rows: list[dict[str, Any]], *, header: bool = True) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(EpochMetrics.__dataclass_fields__), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
