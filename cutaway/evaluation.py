"""A network's answers over a split: the one evaluation that training, inspection and export share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.batches import Feed
from cutaway.datasets import Split
from cutaway.errors import NetworkError
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.several_views import TestViews, corners_and_center, cuts_corners, views_of
from cutaway.progress import Track, silent


@dataclass(frozen=True)
class Evaluation:
    """Answers over a split, with the truth.

    Attributes:
        logits: float32 [N, K], on the CPU.
        labels: int64 [N], on the CPU.
    """

    logits: Tensor
    labels: Tensor

    @cached_property
    def probabilities(self) -> Tensor:
        """float32 [N, K]: the softmax of the logits."""
        return self.logits.softmax(1)

    @cached_property
    def predictions(self) -> Tensor:
        """int64 [N]: the top class of each sample."""
        return self.logits.argmax(1)

    @cached_property
    def accuracy(self) -> float:
        """Share of samples whose top class is the label."""
        return (self.predictions == self.labels).double().mean().item()

    @cached_property
    def loss(self) -> float:
        """Mean cross-entropy in nats, summed in float64."""
        return F.cross_entropy(self.logits.double(), self.labels).item()

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """int64 [K, K]: rows are the truth, columns the prediction."""
        classes = self.logits.shape[1]
        pairs = self.labels * classes + self.predictions
        return pairs.bincount(minlength=classes**2).reshape(classes, classes).numpy()


def evaluate(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workers: int = 0,
    track: Track = silent,
) -> Evaluation:
    """Runs the network, which must be on `device`, over a whole split in evaluation mode and leaves it as it was."""
    return evaluate_feed(
        network, Feed(split, preprocessing, device=device, workers=workers), batch_size=batch_size, track=track
    )


def evaluate_feed(
    network: nn.Module,
    feed: Feed,
    *,
    batch_size: int = 256,
    track: Track = silent,
    channels_last: bool = False,
    views: TestViews = "none",
) -> Evaluation:
    """`evaluate` over a feed that is already there, such as training's own.

    With several views of each picture, the logits are the logarithms of their mean probabilities.
    """
    logits, labels = [], []
    total = -(-len(feed) // batch_size)
    from_photos = cuts_corners(views) and not feed.in_memory and feed.preprocessing.resize == "shorter"
    prepare = partial(corners_and_center, preprocessing=feed.preprocessing) if from_photos else None
    with in_evaluation(network), torch.inference_mode():
        for batch in track(feed.batches(batch_size, prepare=prepare), f"evaluating {feed.split.name}", total):
            answers = []
            for view in views_of(feed.pictures(batch), views, feed.preprocessing.size):
                inputs = feed.normalised(view)
                if channels_last:
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                answers.append(logits_of(network(inputs)).float().cpu())
            logits.append(answers[0] if len(answers) == 1 else _mean_answer(answers))
            labels.append(batch.labels.cpu())
    return Evaluation(torch.cat(logits), torch.cat(labels))


def _mean_answer(answers: list[Tensor]) -> Tensor:
    """The logarithm of the mean probabilities: float32 [B, K] each -> [B, K]."""
    return torch.stack(answers).log_softmax(2).logsumexp(0) - math.log(len(answers))


def logits_of(output: object) -> Tensor:
    """The logits in what a network returned: itself, or the main output of Inception's and GoogLeNet's tuples.

    Raises:
        NetworkError: It is no tensor [B, K] of scores.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise NetworkError(
            f"The network returned a {type(output).__name__}, not a tensor of scores [pictures, classes].",
            hint="Let its forward return the logits.",
        )
    if logits.dim() != 2:
        raise NetworkError(
            f"The network returned a tensor {list(logits.shape)}, not scores [pictures, classes].",
            hint="Let it end in pooling, nn.Flatten and nn.Linear.",
        )
    return logits


def auxiliary_logits_of(output: object) -> tuple[Tensor, ...]:
    """The logits of the auxiliary heads, which Inception and GoogLeNet return in training if they were built so."""
    names = [name for name in getattr(output, "_fields", ()) if name.startswith("aux_logits")]
    return tuple(value for value in (getattr(output, name) for name in names) if isinstance(value, Tensor))


@contextmanager
def in_evaluation(network: nn.Module) -> Iterator[nn.Module]:
    """Puts every module into evaluation mode and gives each its own mode back afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, training in modes:
            module.training = training
