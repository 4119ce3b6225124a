"""Another bundle's answers over the same pictures, for `cutaway evaluate` and the report."""

from __future__ import annotations

from dataclasses import replace

import torch

from cutaway.checkpoints import Restored
from cutaway.cli.inspecting.evaluated import Against
from cutaway.cli.run_data import data_of
from cutaway.cli.terminal import bars
from cutaway.datasets import Dataset, Split, into_memory
from cutaway.datasets.duplicates import content_hashes
from cutaway.errors import DataError
from cutaway.evaluation import Evaluation, evaluate
from cutaway.inspect.comparison import compare_answers, in_order_of
from cutaway.preprocessing import Preprocessing


def compared(
    other: Restored,
    restored: Restored,
    dataset: Dataset,
    split: Split,
    answers: Evaluation,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workers: int = 0,
) -> Against:
    """Evaluates another bundle on a split and holds it against the answers of this one.

    Args:
        other: The other bundle.
        restored: This one.
        dataset: The pictures' data set.
        split: Of it.
        answers: This one's, over that split.
        device: To evaluate on.
        batch_size: Pictures at a time.
        workers: Processes that decode pictures which don't fit into memory.

    Raises:
        InspectionError: The two don't know the same classes, or the scores of one are not finite.
    """
    theirs = evaluate(
        other.network.to(device),
        in_memory(dataset, split, other.preprocessing),
        other.preprocessing,
        device=device,
        batch_size=batch_size,
        workers=workers,
        track=bars,
    )
    theirs = replace(theirs, logits=in_order_of(theirs.logits, other.classes, restored.classes))
    return Against(str(other.path), theirs, compare_answers(theirs, answers), _num_learned(other, split))


def in_memory(dataset: Dataset, split: Split, preprocessing: Preprocessing) -> Split:
    """The split decoded once, where it fits."""
    is_there = split.paths is None
    return into_memory(
        replace(dataset, test=split, in_memory=is_there), preprocessing, names=("test",), track=bars
    ).test


def _num_learned(other: Restored, split: Split) -> int | None:
    """How many samples of a split stand in the training split of another bundle; None where nothing can tell."""
    try:
        train = data_of(other, track=bars).train
    except DataError:
        return None
    if split.paths is not None and train.paths is not None:
        learned = {path.resolve() for path in train.paths}
        return sum(path.resolve() in learned for path in split.paths)
    if split.paths is not None or train.paths is not None or split.prepared or train.prepared:
        return None
    hashes = set(content_hashes(train))
    return sum(content in hashes for content in content_hashes(split))
