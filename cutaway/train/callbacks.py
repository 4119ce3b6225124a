"""What a person may have called in the course of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor, nn

from cutaway.networks import NetworkSpec
from cutaway.settings import TrainSettings
from cutaway.train.journal import EpochMetrics
from cutaway.train.trained import Trained


@dataclass(frozen=True)
class Begun:
    """Before the first step of this process.

    Attributes:
        settings: Of the run.
        spec: Name and shapes of the network.
        classes: Label names in output order.
        network: What is trained, on its device; to look at.
        step: Steps so far; above 0 where the run goes on.
        epoch: Whole epochs so far.
    """

    settings: TrainSettings
    spec: NetworkSpec
    classes: tuple[str, ...]
    network: nn.Module
    step: int
    epoch: int


@dataclass(frozen=True)
class StepDone:
    """After a step of the optimizer.

    Attributes:
        step: Steps so far.
        epoch: Of this step; 1 for the first.
        lr: Its learning rate.
        loss: Mean over the batch: a scalar on the device. `loss.item()` waits for the device.
        network: After the step; its gradients are still there.
    """

    step: int
    epoch: int
    lr: float
    loss: Tensor
    network: nn.Module


@dataclass(frozen=True)
class EpochDone:
    """After the validation that ends an epoch.

    Attributes:
        metrics: Of the epoch; `metrics.scalars()` has them by name.
        network: That was validated: with `ema_decay`, the averaged one.
    """

    metrics: EpochMetrics
    network: nn.Module


@dataclass(frozen=True)
class Saved:
    """A bundle is on disk. This is told at the end of the step in hand, and of the last bundles before the end.

    Attributes:
        path: The bundle.
        step: That it holds.
    """

    path: Path
    step: int


@dataclass(frozen=True)
class Ended:
    """The last of all events, however the training ended.

    Attributes:
        step: Steps so far.
        reason: `interrupted` by a signal, or `failed` with an error.
        trained: What `train` gives back, where it finished.
    """

    step: int
    reason: Literal["finished", "interrupted", "failed"]
    trained: Trained | None = None


class Callback(Protocol):
    """Inherit from this and override what is of interest; every event does nothing by default.

    Callbacks are called in the order in which they were given, in the training's own thread, and training waits for
    them. What they draw from random generators, and modes of modules that they change, are put back afterwards; weights
    that they change stay changed. An exception saves the run as it stands and ends the training with that exception.

    Example:
        >>> class Losses(Callback):
        ...     def on_begin(self, event):
        ...         self.losses = []
        ...
        ...     def on_step(self, event):
        ...         self.losses.append(event.loss)  # a tensor: .item() here would wait for the device
    """

    def on_begin(self, event: Begun) -> None:
        """Called before the first step of this process."""

    def on_step(self, event: StepDone) -> None:
        """Called after each step."""

    def on_epoch(self, event: EpochDone) -> None:
        """Called after each epoch's validation."""

    def on_save(self, event: Saved) -> None:
        """Called once a bundle is on disk."""

    def on_end(self, event: Ended) -> None:
        """Called last."""
