"""What a run tells while it trains: CSV and JSON lines for programs, TensorBoard for people."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from cutaway.checkpoints import Run, Stored
from cutaway.durable import replace_text
from cutaway.metrics import Metrics

LARGEST_CONFUSION = 200


@dataclass(frozen=True)
class EpochMetrics:
    """An epoch in numbers.

    Attributes:
        epoch: 1 for the first.
        step: Steps since the run began.
        lr: Learning rate of the epoch's last step.
        train_loss: Mean over the epoch's samples, in nats, as the weights changed.
        train_accuracy: Likewise.
        valid_loss: Over the validation split, after the epoch; so are all that follow (see `cutaway.metrics.Metrics`).
        valid_accuracy: Share of right answers.
        valid_top5_accuracy: Share with the label among the top five; None of five classes or fewer.
        valid_macro_precision: Averaged over classes.
        valid_macro_recall: Likewise.
        valid_macro_f1: Likewise.
        valid_weighted_precision: Averaged over classes by their samples.
        valid_weighted_f1: Likewise.
        valid_ece: Expected calibration error.
        valid_auroc: Of each class against the rest, averaged.
        seconds: Time in training steps, without validation and saving; of this process alone after a resume.
        wait_seconds: The part of `seconds` in which training had nothing to do but wait for batches.
        images_per_second: Training throughput of the same time; None where the process trained nothing of the epoch.
        gpu_memory_mb: Most memory that tensors took at a time in the training steps, in 10^6 bytes; None where it is no
            CUDA device.
        own: The person's own metrics over the validation split, by the names `valid_…` that they have everywhere.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    valid_top5_accuracy: float | None
    valid_macro_precision: float
    valid_macro_recall: float
    valid_macro_f1: float
    valid_weighted_precision: float
    valid_weighted_f1: float
    valid_ece: float
    valid_auroc: float
    seconds: float
    wait_seconds: float
    images_per_second: float | None
    gpu_memory_mb: float | None
    own: Mapping[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Everything by name, the person's own metrics among the rest."""
        values = asdict(self)
        own: dict[str, Any] = values.pop("own")
        return values | own

    def scalars(self) -> dict[str, float]:
        """Losses and all other measures of the network, by name, as far as the number of classes gives them."""
        named = {name: value for name, value in self.values().items() if name.startswith(("train_", "valid_"))}
        return {name: value for name, value in named.items() if value is not None}


class Journal:
    """Appends to a run's metrics files.

    Lines are whole or absent after a crash but for the last, which reading leaves out. Resuming takes back what was
    written after the bundle that the run goes on from. Columns that an older cutaway had not stay empty in its rows.

    Args:
        run: The run.
        step: The step of the bundle that the run goes on from; 0 at the beginning.
        epoch: Whole epochs at that point.
        own: Names of the person's own metrics, which have columns too.
    """

    def __init__(self, run: Run, *, step: int = 0, epoch: int = 0, own: Sequence[str] = ()) -> None:
        self._columns = [name for name in EpochMetrics.__dataclass_fields__ if name != "own"] + list(own)
        kept = [line for line in run.journal() if line["step"] <= step and line.get("epoch", 0) <= epoch]
        kept = [entry for entry in kept if entry["kind"] != "final"]
        replace_text(run.metrics_jsonl, "".join(_line(entry) for entry in kept))
        epochs = [entry for entry in kept if entry["kind"] == "epoch"]
        replace_text(run.metrics_csv, _csv(self._columns, epochs))
        self._lines: TextIO = run.metrics_jsonl.open("a", encoding="utf-8")
        self._table: TextIO = run.metrics_csv.open("a", encoding="utf-8", newline="")

    def step(self, step: int, *, loss: float, lr: float) -> None:
        """Notes one training step."""
        self._lines.write(_line({"kind": "step", "step": step, "loss": loss, "lr": lr}))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Notes a whole epoch and puts everything on disk."""
        values = metrics.values()
        self._lines.write(_line({"kind": "epoch"} | values))
        self._table.write(_csv(self._columns, [values], header=False))
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


def write_test_metrics(run: Run, bundle: Stored, measured: Metrics) -> None:
    """Writes what a bundle came to over the test split: scalars, a row a class, and the confusion matrix.

    A matrix of more than 200 classes is left out, since nobody reads it and it outgrows everything else in the run.
    """
    confusion = measured.confusion
    rows = zip(
        bundle.manifest.classes,
        measured.support.tolist(),
        measured.precision.tolist(),
        measured.recall.tolist(),
        measured.f1.tolist(),
        measured.class_auroc.tolist(),
        strict=True,
    )
    told = {
        "bundle": bundle.path.name,
        "split": "test",
        "samples": int(measured.support.sum()),
        "metrics": _plain(measured.scalars("test")),
        "classes": [
            _plain(dict(zip(("label", "support", "precision", "recall", "f1", "auroc"), row, strict=True)))
            for row in rows
        ],
        "confusion": None if confusion is None or len(confusion) > LARGEST_CONFUSION else confusion.tolist(),
    }
    replace_text(run.test_metrics, json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n")


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(_plain(entry)) + "\n"


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    # NaN and infinities as strings: they are no JSON, and null would lose which it was.
    return {k: v if not isinstance(v, float) or abs(v) < float("inf") else str(v) for k, v in entry.items()}


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, header: bool = True) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
