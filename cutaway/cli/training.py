"""`cutaway train`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cutaway.cli.arguments import parse_settings
from cutaway.cli.terminal import as_percent, bars, say


def run_train(arguments: Sequence[str]) -> None:
    """Trains, and tells of each epoch in a line."""
    settings = parse_settings("train", arguments)
    from cutaway.train import EpochMetrics, train

    def tell(metrics: EpochMetrics) -> None:
        say(
            f"epoch {metrics.epoch:>{len(str(settings.epochs))}}/{settings.epochs}  "
            f"train loss {metrics.train_loss:.4f} accuracy {as_percent(metrics.train_accuracy)}  "
            f"valid loss {metrics.valid_loss:.4f} accuracy {as_percent(metrics.valid_accuracy)}  "
            f"{metrics.images_per_second:,.0f} images/s"
        )

    trained = train(settings, track=bars, on_epoch=tell, on_note=lambda note: print(note, file=sys.stderr))
    if not trained.metrics:
        say(f"The run has all of its {settings.epochs} epochs already.")
    if trained.test_accuracy is not None:
        say(f"test accuracy of the best bundle {as_percent(trained.test_accuracy)}")
    say(f"best bundle {trained.best.path}")
