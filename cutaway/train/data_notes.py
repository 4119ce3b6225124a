"""What a person should know of the data before training: uneven classes, copies of pictures, and too few steps."""

from __future__ import annotations

import math

from cutaway.datasets import Dataset
from cutaway.datasets.balance import unevenness
from cutaway.settings import TrainSettings

UNEVEN = 1.5
FEW_CLASSES = 12
FEW_STEPS = 5


def data_notes(settings: TrainSettings, dataset: Dataset) -> list[str]:
    """A sentence for each thing that is worth one; none for even classes and splits that share nothing."""
    notes = [_on_balance(settings, dataset), _on_duplicates(dataset), _on_copies(dataset), _on_steps(settings, dataset)]
    return [note for note in notes if note]


def _on_balance(settings: TrainSettings, dataset: Dataset) -> str:
    counts = dict(zip(dataset.classes, dataset.counts()["train"], strict=True))
    if unevenness(list(counts.values())) <= UNEVEN:
        return ""
    by_size = sorted(counts, key=lambda name: -counts[name])
    if len(by_size) <= FEW_CLASSES:
        told = ", ".join(f"{name} {counts[name]:,}" for name in by_size)
    else:
        largest, smallest = by_size[0], by_size[-1]
        told = f"from {counts[smallest]:,} ({smallest}) to {counts[largest]:,} ({largest})"
    done = {
        "none": "Nothing is done about it; --balance loss weights the loss, --balance sample draws classes equally.",
        "loss": "The loss weights each class by the inverse of its size.",
        "sample": "Each epoch draws every class equally often.",
    }
    return f"The classes are uneven in training pictures: {told}. {done[settings.balance]}"


def _on_duplicates(dataset: Dataset) -> str:
    found = dataset.duplicates
    if found is None or not found.num_pictures:
        return ""
    many = found.num_pictures > 1
    pairs = "; ".join(f"{one} = {other}" for one, other in found.first)
    more = found.num_pictures - len(found.first)
    told = f"{found.num_pictures:,} picture{'s stand' if many else ' stands'} in more than one split: {pairs}"
    told += f"; and {more:,} more." if more else "."
    if found.num_contradictions:
        told += f" {found.num_contradictions:,} of them with two labels."
    if found.dropped:
        return f"{told} {'They are' if many else 'It is'} left out of the earlier split."
    return f"{told} The figures of the later split are flattered; --duplicates drop leaves them out of training."


def _on_copies(dataset: Dataset) -> str:
    found = dataset.duplicates
    if found is None or not found.num_copies:
        return ""
    are = "pictures are copies" if found.num_copies > 1 else "picture is a copy"
    told = f"{found.num_copies:,} training {are} of another training picture"
    if found.num_relabelled:
        told += f", {found.num_relabelled:,} of them with another label, so that one of the two labels is wrong"
    return f"{told}. They stay as they are."


def _on_steps(settings: TrainSettings, dataset: Dataset) -> str:
    steps = math.ceil(len(dataset.train) / (settings.batch_size * settings.accumulate))
    if steps >= FEW_STEPS or settings.batch_size * settings.accumulate == 1:
        return ""
    smaller = "smaller --batch-size" if settings.accumulate == 1 else "smaller --batch-size or --accumulate"
    many = "One step" if steps == 1 else f"{steps} steps"
    return f"{many} an epoch, which is little to learn from: give a {smaller}."
