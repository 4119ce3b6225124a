"""Mistakes worth looking at: of the largest confusions, and those that a network is surest of, with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import NetworkError
from cutaway.inspect.class_activation import grad_cam
from cutaway.inspect.classwise import Answers, ClassScores, Confusion, telling_samples
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.spec import Pixels
from cutaway.preprocessing.views import view
from cutaway.progress import Track, silent

_AT_A_TIME = 16


@dataclass(frozen=True, eq=False)
class Mistake:
    """A picture that was taken for another class.

    Attributes:
        index: Of the sample in its split.
        truth: Index of its class.
        prediction: Index of the class that it was taken for.
        truth_probability: What the network gave its class.
        probability: What it gave the class that it was taken for.
        picture: uint8 [h, w, 1 or 3], what the network saw, in the picture's own detail.
        truth_map: float32 [h', w'], what in it speaks for its class, by Grad-CAM; None where the network has no maps.
        prediction_map: float32 [h', w'], what speaks for the class that it was taken for.
    """

    index: int
    truth: int
    prediction: int
    truth_probability: float
    probability: float
    picture: Pixels
    truth_map: npt.NDArray[np.float32] | None
    prediction_map: npt.NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class ConfusionExamples:
    """A confusion and the pictures that it is surest of.

    Attributes:
        confusion: The two classes and how often the one was taken for the other.
        indices: Samples, the most confident first.
        probabilities: What the network gave the wrong class, for each.
    """

    confusion: Confusion
    indices: tuple[int, ...]
    probabilities: tuple[float, ...]


def confusion_examples(
    answers: Answers, scores: ClassScores, *, confusions: int = 8, pictures: int = 6
) -> tuple[ConfusionExamples, ...]:
    """The largest confusions, each with the pictures that the network is surest of.

    Args:
        answers: Logits [N, K] and labels [N].
        scores: Their scores by class.
        confusions: How many confusions.
        pictures: How many pictures of each.
    """
    labels = answers.labels.cpu()
    logits = answers.logits.detach().cpu()
    top = logits.argmax(1)
    place = {name: index for index, name in enumerate(scores.classes)}
    found = []
    for confusion in scores.top_confusions(confusions):
        wrong = place[confusion.prediction]
        indices = ((labels == place[confusion.truth]) & (top == wrong)).nonzero()[:, 0]
        sureness = logits[indices].softmax(1)[:, wrong]
        order = sureness.argsort(descending=True, stable=True)[:pictures]
        found.append(
            ConfusionExamples(
                confusion,
                tuple(int(index) for index in indices[order]),
                tuple(float(share) for share in sureness[order]),
            )
        )
    return tuple(found)


def confident_mistakes(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    answers: Answers,
    *,
    limit: int = 12,
    target_layer: TargetLayer | str | None = None,
    track: Track = silent,
) -> tuple[Mistake, ...]:
    """The mistakes that a network is surest of, with what speaks for the right and for the wrong class.

    Args:
        network: Left as it was.
        split: The samples, best before preprocessing: their pictures are then shown in their own detail.
        preprocessing: From decoded pixels to the network's input.
        answers: The network's, in the split's order.
        limit: How many.
        target_layer: Where to read the maps; the network's default if None. A network without one has no maps.
        track: Shows progress.

    Raises:
        NetworkError: There is no target layer of the name asked for.
    """
    _, indices = telling_samples(answers, right=0, wrong=limit)
    target: TargetLayer | None = None
    try:
        target = (
            target_layer
            if isinstance(target_layer, TargetLayer)
            else find_target_layer(network, preprocessing.input_shape, target_layer)
        )
    except NetworkError:
        if target_layer is not None:
            raise
    chunks = [indices[at : at + _AT_A_TIME] for at in range(0, len(indices), _AT_A_TIME)]
    found: list[Mistake] = []
    for chunk in track(chunks, "explaining mistakes", len(chunks)):
        found += _explained(network, split, preprocessing, answers, chunk, target)
    return tuple(found)


def seen_picture(split: Split, preprocessing: Preprocessing, index: int) -> Pixels:
    """What the network saw of a sample, in the picture's own detail where the split still has it."""
    image = split.image(index)
    return image if split.prepared else view(image, preprocessing)


def _explained(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    answers: Answers,
    indices: Sequence[int],
    target: TargetLayer | None,
) -> list[Mistake]:
    logits = answers.logits.detach().cpu()[indices]
    probabilities = logits.softmax(1)
    truths, tops = answers.labels.cpu()[indices], logits.argmax(1)
    maps: list[npt.NDArray[np.float32]] | None = None
    if target is not None:
        images = [split.image(index) for index in indices]
        seen = np.stack([image if split.prepared else preprocessing.picture(image) for image in images])
        inputs = torch.from_numpy(preprocessing.normalise(seen))
        maps = [
            grad_cam(network, inputs, target, asked).maps.detach().float().cpu().numpy() for asked in (truths, tops)
        ]
    return [
        Mistake(
            index=index,
            truth=int(truths[place]),
            prediction=int(tops[place]),
            truth_probability=float(probabilities[place, truths[place]]),
            probability=float(probabilities[place, tops[place]]),
            picture=seen_picture(split, preprocessing, index),
            truth_map=None if maps is None else maps[0][place],
            prediction_map=None if maps is None else maps[1][place],
        )
        for place, index in enumerate(indices)
    ]
