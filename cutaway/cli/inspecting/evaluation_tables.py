"""What `cutaway evaluate` prints for people."""

from __future__ import annotations

import math

from cutaway.cli.inspecting.evaluated import Against, Evaluated
from cutaway.cli.terminal import as_percent, one_line, say, say_table
from cutaway.inspect.assessment import Assessment
from cutaway.inspect.calibration import Calibration
from cutaway.inspect.intervals import wilson

_MOST_CLASSES = 30
_MOST_CONFUSIONS = 10
_MOST_SLICES = 30


def show(evaluated: Evaluated) -> None:
    """Prints the headline, the classes, the largest confusions, the slices and the comparison."""
    found = evaluated.assessment
    say(
        one_line(
            f"{evaluated.reference} on {evaluated.data}, {found.split.name}: {found.scores.num_samples:,} pictures of "
            f"{len(found.scores.classes):,} classes"
        )
    )
    say("")
    _show_headline(found)
    _show_classes(found)
    _show_confusions(found)
    _show_slices(found)
    if evaluated.against is not None:
        _show_comparison(evaluated, evaluated.against)


def _show_headline(found: Assessment) -> None:
    metrics, calibration = found.metrics, found.calibration
    right = round(metrics.accuracy * found.scores.num_samples)
    low, high = wilson(right, found.scores.num_samples)
    lean = calibration.overconfidence
    rows = [("accuracy", as_percent(metrics.accuracy), f"95 %: {as_percent(float(low))} to {as_percent(float(high))}")]
    if metrics.top5_accuracy is not None:
        rows.append(("top-5 accuracy", as_percent(metrics.top5_accuracy), ""))
    rows += [
        ("macro F1", f"{metrics.macro_f1:.4f}", "the mean over classes"),
        ("AUROC", f"{metrics.auroc:.4f}", "each class against the rest"),
        ("NLL", f"{calibration.nll:.4f}", "nats"),
        ("Brier", f"{calibration.brier:.4f}", "0 to 2"),
        (
            "ECE",
            f"{calibration.ece:.4f}",
            f"{100 * abs(lean):.1f} points {'more' if lean > 0 else 'less'} sure than right",
        ),
        ("MCE", f"{calibration.mce:.4f}", _worst_bin(calibration)),
    ]
    say_table(["figure", "value", ""], rows)


def _worst_bin(calibration: Calibration) -> str:
    held, count = int((calibration.counts > 0).sum()), int(calibration.counts[calibration.worst_bin])
    pictures = "1 picture" if count == 1 else f"{count:,} pictures"
    told = f"the worst of {held} bins with pictures, of {pictures}"
    return f"{told}, which may be chance" if calibration.worst_may_be_chance else told


def _show_classes(found: Assessment) -> None:
    scores = found.scores.scores
    order = list(range(len(scores)))
    title = "classes"
    if len(scores) > _MOST_CLASSES:
        order = found.metrics.worst_classes(_MOST_CLASSES)
        title = f"the {len(order)} worst of {len(scores):,} classes by F1 (classes.csv has all)"
    say("")
    say_table(
        ["class", "precision", "recall", "F1", "support", "share"],
        [
            [
                scores[index].label,
                _share(scores[index].precision),
                _share(scores[index].recall),
                _share(scores[index].f1),
                scores[index].support,
                as_percent(scores[index].share),
            ]
            for index in order
        ],
        title=title,
    )


def _show_confusions(found: Assessment) -> None:
    pairs = found.scores.top_confusions(_MOST_CONFUSIONS)
    say("")
    if not pairs:
        say("no mistakes")
        return
    say_table(
        ["truth", "taken for", "times", "of", "share"],
        [
            [pair.truth, pair.prediction, pair.times, pair.support, as_percent(pair.times / pair.support)]
            for pair in pairs
        ],
        title="largest confusions",
    )


def _show_slices(found: Assessment) -> None:
    for slices in found.slices:
        shown = slices.slices[:_MOST_SLICES]
        part = "" if len(shown) == len(slices.slices) else f", {len(shown)} of {len(slices.slices):,}"
        say("")
        say_table(
            [slices.column, "pictures", "accuracy", "95 %", "expected of its classes", "against the rest"],
            [
                [
                    one.value,
                    one.num_samples,
                    as_percent(one.accuracy),
                    f"{as_percent(one.low)} to {as_percent(one.high)}",
                    as_percent(one.expected),
                    f"{one.against_the_rest} (p {one.p_value:.2g})" if one.against_the_rest else "",
                ]
                for one in shown
            ],
            title=one_line(f"by {slices.column}{part}"),
        )


def _show_comparison(evaluated: Evaluated, against: Against) -> None:
    found = against.comparison
    verdict = "which may be chance" if found.is_chance else "more than chance"
    say("")
    say(
        one_line(
            f"against {against.reference}: {as_percent(found.first_accuracy)} there, "
            f"{as_percent(found.second_accuracy)} here"
        )
    )
    say(
        f"{100 * found.difference:+.1f} points (95 %: {100 * found.low:+.1f} to {100 * found.high:+.1f}), {verdict} "
        f"(McNemar's exact test, p = {found.p_value:.2g})"
    )
    say_table(
        ["there", "here", "pictures"],
        [
            ["right", "right", found.num_both_right],
            ["right", "wrong", len(found.broken)],
            ["wrong", "right", len(found.mended)],
            ["wrong", "wrong", found.num_both_wrong],
        ],
    )
    if against.learned is None:
        say("Whether these pictures are among those that the other one learned cannot be told from here.")
    elif against.learned:
        say(f"{against.learned:,} of these pictures are among those that the other one learned.")


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
