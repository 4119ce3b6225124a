"""`cutaway train`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cutaway.cli import printable
from cutaway.cli.arguments import parse_settings
from cutaway.cli.terminal import as_percent, bars, say

if TYPE_CHECKING:
    from cutaway.train import EpochMetrics


def run_train(arguments: Sequence[str]) -> None:
    """Trains, and tells of each epoch in a line."""
    settings, override = parse_settings("train", arguments)
    from cutaway.train import train

    trained = train(
        settings,
        override=override,
        track=bars,
        on_epoch=epoch_teller(settings.epochs),
        on_note=lambda note: print(printable(note), file=sys.stderr),
    )
    if not trained.metrics:
        say(f"The run has all of its {settings.epochs} epochs already.")
    if trained.test_accuracy is not None:
        say(f"test accuracy of the best bundle {as_percent(trained.test_accuracy)}")
    say(f"best bundle {trained.best.path}")
    say(f"next: cutaway inspect report {trained.run}, cutaway export {trained.run}, tensorboard --logdir {trained.run}")


def epoch_teller(epochs: int) -> Callable[[EpochMetrics], None]:
    """Prints a line an epoch."""

    def tell(metrics: EpochMetrics) -> None:
        say(
            f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}  "
            f"train loss {metrics.train_loss:.4f} accuracy {as_percent(metrics.train_accuracy)}  "
            f"valid loss {metrics.valid_loss:.4f} accuracy {as_percent(metrics.valid_accuracy)}  "
            + ("" if metrics.images_per_second is None else f"{metrics.images_per_second:,.0f} images/s")
        )

    return tell
