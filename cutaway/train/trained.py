"""What a training came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cutaway.checkpoints import Restored, Stored
from cutaway.metrics import Metrics
from cutaway.train.journal import EpochMetrics


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        run: The run's directory.
        best: The bundle with the best monitored metric.
        last: The bundle after the last epoch.
        metrics: Of each epoch that this process trained.
        test: Metrics of the best bundle over the test split; None where that is empty.
        restored: The best bundle's network, with its classes and preprocessing.
        stopped_early: Whether the run ended before its last epoch for lack of progress.
        tta_accuracy: Share of the test split that it gets right, averaged over the views that `tta` asks for.
    """

    run: Path
    best: Stored
    last: Stored
    metrics: tuple[EpochMetrics, ...]
    test: Metrics | None
    restored: Restored
    stopped_early: bool = False
    tta_accuracy: float | None = None

    def __repr__(self) -> str:
        """One line; what was measured of each epoch and class is for its attributes."""
        epochs, best, last = len(self.metrics), self.best.path.name, self.last.path.name
        return (
            f"Trained(run={str(self.run)!r}, epochs={epochs}, best={best!r}, last={last!r}, "
            f"test_accuracy={self.test_accuracy}, stopped_early={self.stopped_early})"
        )

    @property
    def test_accuracy(self) -> float | None:
        """Share of the test split that the best bundle gets right; None where that is empty."""
        return None if self.test is None else self.test.accuracy
