"""Whether a network can learn one batch by heart: the quickest test of labels, rate and layers."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from cutaway.errors import SettingsError
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings
from cutaway.train.epoch import Epoch
from cutaway.train.rehearsing import rehearsal

# In nats: the network gives each picture's own class 0.95 on average.
_NEAR_ZERO = 0.05

# What keeps a network from learning by heart, switched off.
_PLAIN = {"augment": (), "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0, "l1": 0.0, "l2": 0.0}


@dataclass(frozen=True)
class OneBatch:
    """What came of training on one batch again and again.

    Attributes:
        images: Pictures in the batch.
        losses: The batch's mean loss before each step, in nats.
        accuracy: Share of the batch that was right before the last step.
        learned: Whether the loss came near zero, which ends it early, with every picture right.
    """

    images: int
    losses: tuple[float, ...]
    accuracy: float
    learned: bool

    def __str__(self) -> str:
        first, last = self.losses[0], self.losses[-1]
        said = (
            f"One batch of {self.images} pictures, {len(self.losses)} steps: loss {first:.4f} to {last:.4f}, "
            f"accuracy {100 * self.accuracy:.1f} %."
        )
        if self.learned:
            return f"{said} The network can learn."
        return f"{said} It cannot fit even one batch: look at the labels, the rate (try lr-find), and frozen layers."


def overfit_one_batch(
    settings: TrainSettings, *, num_steps: int = 500, allow_code: Collection[str] = (), track: Track = silent
) -> OneBatch:
    """Trains on the first batch alone, at the full rate, without augmentation, smoothing, decay and dropout.

    No run is written, and the random states come back.

    Args:
        settings: What would be trained.
        num_steps: At most.
        allow_code: As for `train`.
        track: Shows progress.

    Raises:
        CutawayError: Something about the settings, the data or the device is wrong.
    """
    if num_steps < 1:
        raise SettingsError(f"{num_steps} steps cannot show anything.", hint="Give 1 or more.")
    plain = settings.model_copy(update=_PLAIN)
    with rehearsal(plain, allow_code=allow_code, track=track) as (session, feed):
        epoch = Epoch(session, feed)
        for module in session.network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        batch = next(iter(epoch))
        losses: list[float] = []
        accuracy, learned = 0.0, False
        for _ in track(range(num_steps), "learning one batch by heart", num_steps):
            session.correct.zero_()
            loss, _lr = epoch.learn(batch, lr=settings.lr)
            losses.append(loss.item())
            accuracy = session.correct.item() / len(batch.labels)
            learned = losses[-1] <= _NEAR_ZERO and accuracy == 1.0
            if learned or not math.isfinite(losses[-1]):
                break
        return OneBatch(images=len(batch.labels), losses=tuple(losses), accuracy=accuracy, learned=learned)
