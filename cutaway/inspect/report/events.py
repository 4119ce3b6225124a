"""The figures of a report among a run's TensorBoard events."""

from __future__ import annotations

from collections.abc import Sequence

from cutaway.inspect.confusion_figures import draw_confusion
from cutaway.inspect.event_files import EventFiles
from cutaway.inspect.figures import draw_feature_maps, draw_kernels
from cutaway.inspect.report.answers import Mistakes
from cutaway.inspect.report.document import Report
from cutaway.inspect.sheets import Tile, class_text, draw_tiles


def write_events(events: EventFiles, report: Report) -> None:
    """Writes the figures of those sections that the report has.

    Args:
        events: Where to.
        report: As `report_on` gathered it.
    """
    if "samples" in report:
        for number, view in enumerate(report["samples"]["views"]):
            events.picture(f"inspect pictures/{number:02d}", view.picture)
            for explanation in view.explanations:
                if explanation.overlay is not None:
                    events.picture(f"inspect pictures/{number:02d} for {explanation.label}", explanation.overlay)
    if "scores" in report:
        scores = report["scores"]["scores"]
        events.figure("inspect/confusion", draw_confusion(scores))
        tiles = _confused(report["scores"]["confusions"], scores.classes)
        if tiles:
            events.figure("inspect/confusions", draw_tiles(tiles, title="the most frequent mistakes, the surest first"))
    for section in ("calibration", "embedding"):
        if section in report:
            events.picture(f"inspect/{section}", report[section]["figure"])
    if "slices" in report:
        for found, figure in zip(report["slices"]["slices"], report["slices"]["figures"], strict=True):
            events.picture(f"inspect slices/{found.column}", figure)
    if "comparison" in report:
        for kind, figure in report["comparison"]["figures"].items():
            events.picture(f"inspect/{kind} against another network", figure)
    if "trust" in report:
        for number, row in enumerate(report["trust"]["rows"]):
            for method, drawn in row.overlays.items():
                if drawn is not None:
                    events.picture(f"inspect explanations/{number:02d} by {method}", drawn)
        for name, key in (("faithfulness", "comparison"), ("sanity", "sanity")):
            if report["trust"][key] is not None:
                events.picture(f"inspect/{name}", report["trust"][key]["figure"])
    if "history" in report:
        for name in ("weights", "updates"):
            if report["history"][name] is not None:
                events.picture(f"inspect/{name} over the run", report["history"][name])
        if report["history"]["last_step"] is not None:
            events.picture("inspect/updates in the last step", report["history"]["last_step"])
    if "channels" in report and report["channels"]["figure"] is not None:
        events.picture("inspect/channels", report["channels"]["figure"])
    if "kernels" in report:
        events.figure("inspect/first kernels", draw_kernels(report["kernels"]["found"]))
    if "features" in report:
        for maps in report["features"]["maps"]:
            events.figure(f"inspect feature maps/{maps.layer.name}", draw_feature_maps(maps))
    if "weights" in report:
        for group in report["weights"]["groups"]:
            events.histograms(f"inspect {group.kind}", group.histograms)


def _confused(confusions: Sequence[Mistakes], classes: Sequence[str]) -> list[Tile]:
    place = {name: index for index, name in enumerate(classes)}
    return [
        Tile(
            (picture,),
            (
                f"is {class_text(classes, place[mistakes.pair.truth])}",
                f"{probability:.0%}: {class_text(classes, place[mistakes.pair.prediction])}",
            ),
        )
        for mistakes in confusions
        for picture, probability in mistakes.examples
    ]
