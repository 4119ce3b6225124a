"""`cutaway train`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cutaway.cli import printable
from cutaway.cli.arguments import Own, parse_settings_and
from cutaway.cli.own_code import permitted
from cutaway.cli.terminal import as_percent, bars, say, say_table

if TYPE_CHECKING:
    from cutaway.metrics import Metrics
    from cutaway.train import EpochMetrics

OWN = {
    "override": Own(tuple[str, ...], (), "Settings that may differ from those that the run was begun with."),
    "allow_code": Own(tuple[str, ...], (), "Modules that a --network python:MODULE:FACTORY may be imported from."),
    "overfit_one_batch": Own(bool, False, "Only see whether one batch can be learned by heart; no run is written."),
}
WORST_CLASSES = 3


def run_train(arguments: Sequence[str]) -> None:
    """Trains, and tells of each epoch in a line."""
    settings, own = parse_settings_and(OWN, "train", arguments, "Train a network, or go on with the run at --out.")
    if own["overfit_one_batch"]:
        from cutaway.train.overfitting import overfit_one_batch

        say(str(overfit_one_batch(settings, allow_code=permitted(own["allow_code"]), track=bars)))
        return
    from cutaway.train import train

    trained = train(
        settings,
        override=[name.replace("-", "_") for name in own["override"]],
        allow_code=permitted(own["allow_code"]),
        track=bars,
        on_epoch=epoch_teller(settings.epochs),
        on_note=lambda note: print(printable(note), file=sys.stderr),
    )
    if not trained.metrics and not trained.stopped_early:
        say(f"The run has all of its {settings.epochs} epochs already.")
    if trained.test is not None:
        averaged = f", over {settings.tta} views {as_percent(trained.tta_accuracy)}" if trained.tta_accuracy else ""
        say(f"test accuracy of the best bundle {as_percent(trained.test.accuracy)}{averaged}")
        say_test(trained.test, trained.best.manifest.classes)
    say(f"best bundle {trained.best.path}")
    of_run = " ".join([str(trained.run), *(["--allow-code", *own["allow_code"]] if own["allow_code"] else [])])
    say(f"next: cutaway inspect report {of_run}, cutaway export {of_run}, tensorboard --logdir {trained.run}")


def say_test(measured: Metrics, classes: Sequence[str]) -> None:
    """Prints what a reader of the accuracy asks next: the other averages, and the classes that are told apart worst."""
    averages = {
        "top-5 accuracy": measured.top5_accuracy,
        "macro F1": measured.macro_f1,
        "AUROC": measured.auroc,
        "calibration error": measured.ece,
    }
    shown = {name: value for name, value in averages.items() if value is not None}
    say("  ".join(f"{name} {value:.3f}" for name, value in shown.items()))
    figures = (measured.f1, measured.precision, measured.recall)
    say_table(
        ["worst classes", "F1", "precision", "recall", "pictures"],
        [
            [classes[at], *("-" if math.isnan(of[at]) else float(of[at]) for of in figures), int(measured.support[at])]
            for at in measured.worst_classes(WORST_CLASSES)
        ],
    )


def epoch_teller(epochs: int) -> Callable[[EpochMetrics], None]:
    """Prints a line an epoch."""

    def tell(metrics: EpochMetrics) -> None:
        say(
            f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}  "
            f"train loss {metrics.train_loss:.4f} accuracy {as_percent(metrics.train_accuracy)}  "
            f"valid loss {metrics.valid_loss:.4f} accuracy {as_percent(metrics.valid_accuracy)}  " + _pace(metrics)
        )

    return tell


def _pace(metrics: EpochMetrics) -> str:
    """How fast an epoch went; nothing where it was trained before this process began."""
    if metrics.images_per_second is None:
        return ""
    said = f"{metrics.images_per_second:,.0f} images/s, waited {metrics.wait_seconds / metrics.seconds:.0%} for data"
    return said if metrics.gpu_memory_mb is None else f"{said}, GPU memory {metrics.gpu_memory_mb:,.0f} MB"
