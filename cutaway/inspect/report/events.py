"""The figures of a report among a run's TensorBoard events."""

from __future__ import annotations

from cutaway.inspect.confusion_figures import draw_confusion
from cutaway.inspect.event_files import EventFiles
from cutaway.inspect.figures import draw_feature_maps, draw_kernels
from cutaway.inspect.report.document import Report


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
        events.figure("inspect/confusion", draw_confusion(report["scores"]["scores"]))
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
