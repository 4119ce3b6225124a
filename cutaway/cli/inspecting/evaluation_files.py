"""What `cutaway evaluate` writes: figures, tables for spreadsheets, and everything as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cutaway.cli.inspecting.evaluated import Evaluated
from cutaway.cli.inspecting.evaluation_pictures import figures
from cutaway.cli.terminal import bars, formula_safe
from cutaway.inspect.assessment import Assessment
from cutaway.inspect.slices import Slice

MOST_CONFUSIONS = 20


def write_all(evaluated: Evaluated, out: Path) -> list[str]:
    """Writes every figure and table into a directory, made where missing; returns the files' names."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "evaluation.json": json.dumps(as_json(evaluated), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "classes.csv": classes_csv(evaluated.assessment),
        "confusion.csv": _confusion_csv(evaluated.assessment),
        "predictions.csv": _predictions_csv(evaluated),
    }
    if evaluated.assessment.slices:
        texts["slices.csv"] = _slices_csv(evaluated.assessment)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", errors="replace")
    names = []
    for name, picture in bars(figures(evaluated), "drawing"):
        (out / name).write_bytes(picture)
        names.append(name)
    return [*names, *texts]


def as_json(evaluated: Evaluated) -> dict[str, Any]:
    """Everything in numbers. What is undefined is null."""
    found = evaluated.assessment
    calibration = found.calibration
    bins = zip(
        calibration.edges[:-1],
        calibration.edges[1:],
        calibration.counts,
        calibration.confidence,
        calibration.recognised,
        calibration.low,
        calibration.high,
        strict=True,
    )
    names = ("from", "to", "samples", "confidence", "right", "low", "high")
    document: dict[str, Any] = {
        "reference": evaluated.reference,
        "data": evaluated.data,
        "split": found.split.name,
        "samples": found.scores.num_samples,
        "metrics": found.metrics.scalars("") | {"ece": calibration.ece},
        "calibration": {
            "ece": calibration.ece,
            "mce": calibration.mce,
            "mce_samples": int(calibration.counts[calibration.worst_bin]),
            "mce_may_be_chance": calibration.worst_may_be_chance,
            "brier": calibration.brier,
            "nll": calibration.nll,
            "mean_confidence": calibration.mean_confidence,
            "bins": [dict(zip(names, map(float, row), strict=True)) for row in bins],
        },
        "classes": _class_rows(found),
        "confusions": [asdict(pair) for pair in found.scores.top_confusions(MOST_CONFUSIONS)],
        "slices": [
            {"column": part.column, "values": [asdict(one) | _apart(one) for one in part.slices]}
            for part in found.slices
        ],
    }
    document["metrics"] = {name.removeprefix("_"): value for name, value in document["metrics"].items()}
    if found.embedding is not None:
        document["embedding"] = {
            "method": found.embedding.method,
            "layer": found.embedding.layer,
            "samples": len(found.embedding.indices),
            "explained": found.embedding.explained,
            "trustworthiness": found.embedding.trustworthiness,
        }
    if evaluated.against is not None:
        comparison = evaluated.against.comparison
        flips = {"broken": comparison.broken, "mended": comparison.mended}
        document["against"] = {
            "reference": evaluated.against.reference,
            "accuracy": comparison.first_accuracy,
            "learned": evaluated.against.learned,
            **{name: value for name, value in asdict(comparison).items() if name not in flips},
            **{name: [found.split.called(index) for index in indices] for name, indices in flips.items()},
        }
    finite: dict[str, Any] = _finite(document)
    return finite


def classes_csv(found: Assessment) -> str:
    """A line for each class."""
    rows = _class_rows(found)
    return _csv(list(rows[0]), (list(row.values()) for row in rows))


def _class_rows(found: Assessment) -> list[dict[str, Any]]:
    return [
        {
            "class": index,
            "label": score.label,
            "support": score.support,
            "share": score.share,
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
            "auroc": float(found.metrics.class_auroc[index]),
        }
        for index, score in enumerate(found.scores.scores)
    ]


def _confusion_csv(found: Assessment) -> str:
    classes = found.scores.classes
    rows = ([label, *counts] for label, counts in zip(classes, found.scores.matrix.tolist(), strict=True))
    return _csv(["truth (rows), predicted (columns)", *classes], rows)


def _predictions_csv(evaluated: Evaluated) -> str:
    found, against = evaluated.assessment, evaluated.against
    classes, split, answers = found.scores.classes, found.split, found.answers
    columns = {part.column: split.columns[part.column.strip().casefold()] for part in found.slices}
    header = ["sample", "truth", "predicted", "probability", "truth_probability", "right", *columns]
    labels, tops = answers.labels.tolist(), answers.predictions.tolist()
    sure = answers.probabilities.max(1).values.tolist()
    of_truth = answers.probabilities.gather(1, answers.labels[:, None])[:, 0].tolist()
    theirs: list[int] = []
    if against is not None:
        header += ["against", "flip"]
        theirs = against.answers.predictions.tolist()

    def rows() -> Iterable[Sequence[Any]]:
        for index, (label, top) in enumerate(zip(labels, tops, strict=True)):
            row = [split.called(index), classes[label], classes[top], sure[index], of_truth[index], int(label == top)]
            row += [values[index] for values in columns.values()]
            if theirs:
                row += [classes[theirs[index]], _flip(was_right=theirs[index] == label, is_right=top == label)]
            yield row

    return _csv(header, rows())


def _flip(*, was_right: bool, is_right: bool) -> str:
    if was_right == is_right:
        return ""
    return "mended" if is_right else "broken"


def _slices_csv(found: Assessment) -> str:
    rows = [{"column": part.column} | asdict(one) | _apart(one) for part in found.slices for one in part.slices]
    return _csv(list(rows[0]), (list(row.values()) for row in rows))


def _apart(one: Slice) -> dict[str, str]:
    return {"against_the_rest": one.against_the_rest}


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([formula_safe(name) for name in header])
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return formula_safe(value)
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
