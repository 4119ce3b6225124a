"""What a report is about: a network, the pictures it was measured on, and how it came to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.datasets import Split
from cutaway.errors import NetworkError
from cutaway.inspect.attribution.subject import prepared
from cutaway.inspect.classwise import Answers, ClassScores, class_scores, telling_samples
from cutaway.inspect.layers import LayerTable, TrainingMemory, layer_table
from cutaway.inspect.run_histories import Moment
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track, silent

BATCH = 64
"""Pictures that run through the network at a time."""


@dataclass(frozen=True)
class Other:
    """Another network, to hold the one of the report against.

    Attributes:
        name: What to call it.
        answers: Its logits and labels over the same samples, with the classes in the order of the report's.
        learned: How many of the samples it was trained on; None where that cannot be told.
    """

    name: str
    answers: Answers
    learned: int | None = None


@dataclass(frozen=True)
class Subject:
    """A network and what is known of it.

    Attributes:
        network: Returns logits [N, K].
        preprocessing: From decoded pixels to its input.
        classes: K names.
        samples: The split that `answers` belong to.
        answers: Logits and labels in the split's order.
        settings: How it was trained.
        journal: One row per epoch, as `charts.curves` takes them.
        augmented: uint8 [H, W, 3], a grid of training pictures and what augmentation made of them.
        history: Its parameters from bundle to bundle.
        environment: Versions and machine.
        right: How many recognised pictures to explain.
        wrong: How many of the most confident mistakes to explain.
        slice_by: Columns of the samples to score the parts of; every column that makes a few if None.
        against: Another network over the same samples.
        memory: What training it takes.
        layer: Where to read class activation maps; the default of the network if None.
        track: Shows progress.
    """

    network: nn.Module
    preprocessing: Preprocessing
    classes: Sequence[str]
    samples: Split
    answers: Answers
    settings: Mapping[str, Any] = field(default_factory=dict)
    journal: Sequence[Mapping[str, Any]] = ()
    augmented: Pixels | None = None
    history: Sequence[Moment] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    right: int = 10
    wrong: int = 9
    slice_by: Sequence[str] | None = None
    against: Other | None = None
    memory: TrainingMemory | None = None
    layer: str | None = None
    track: Track = silent

    @cached_property
    def table(self) -> LayerTable:
        """The layer table."""
        return layer_table(self.network, self.preprocessing.input_shape)

    @cached_property
    def is_finite(self) -> bool:
        """Whether the network's answers are numbers; a diverged one's are not, and name no class."""
        return bool(self.answers.logits.isfinite().all())

    @cached_property
    def scores(self) -> ClassScores:
        """Accuracy and confusion by class."""
        return class_scores(self.answers, self.classes)

    @cached_property
    def recognised_and_mistaken(self) -> tuple[list[int], list[int]]:
        """Samples worth looking at: recognised ones of each class, and the most confident mistakes."""
        return telling_samples(self.answers, right=self.right, wrong=self.wrong)

    @cached_property
    def target(self) -> TargetLayer | None:
        """Where class activation maps are read; None where the network has no such layer.

        Raises:
            NetworkError: The layer that was asked for is none.
        """
        try:
            return find_target_layer(self.network, self.preprocessing.input_shape, self.layer)
        except NetworkError:
            if self.layer is not None:
                raise
            return None

    @cached_property
    def alone(self) -> str | None:
        """Why pictures are explained one by one, in words that follow upon "since"; None where they need not be."""
        with prepared(self.network, self.inputs([self.picture(0)]), purpose="A report", gradients=False) as found:
            return found.alone

    def picture(self, index: int) -> Pixels:
        """A sample as the network sees it: uint8 [h, w, 1 or 3]."""
        image = self.samples.image(index)
        return image if self.samples.prepared else self.preprocessing.picture(image)

    @property
    def device(self) -> torch.device:
        """Where the network's weights lie; the CPU where it has none."""
        parameter = next(self.network.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def spread(self, most: int) -> list[int]:
        """So many samples at most, evenly over the split."""
        number = min(len(self.samples), most)
        return [at * len(self.samples) // number for at in range(number)] if number else []

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs float [N, C, h, w] and labels int64 [N] of these samples, on the network's device."""
        for start in range(0, len(indices), BATCH):
            some = list(indices[start : start + BATCH])
            yield self.inputs([self.picture(index) for index in some]), self.answers.labels[some].to(self.device)

    def inputs(self, pictures: Sequence[Pixels]) -> Tensor:
        """Pictures as the network takes them: float [N, C, h, w], where its weights lie."""
        return torch.from_numpy(self.preprocessing.normalise(np.stack(pictures))).to(self.device)
