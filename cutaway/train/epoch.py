"""What is left of an epoch: its batches in order, from each a step, and how fast that goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cutaway.batches import Batch, Feed
from cutaway.train.augmentation import Augmenter, Mixing
from cutaway.train.fine_tuning import freeze
from cutaway.train.order import balanced_order, draw_keys, epoch_order, whole_batches
from cutaway.train.own import transformed
from cutaway.train.recipe import cycled_momentum, learning_rate, plateau_scale, set_momentum
from cutaway.train.session import Session
from cutaway.train.stepping import step


@dataclass(frozen=True)
class Pace:
    """How fast an epoch went, in this process alone.

    Attributes:
        seconds: From its first batch to its last step.
        wait_seconds: The part of it in which training had nothing to do but wait for batches.
        images_per_second: None where the process trained nothing of the epoch.
        gpu_memory_mb: Most memory that tensors took at a time, in 10^6 bytes; None where it was no CUDA device.
    """

    seconds: float
    wait_seconds: float
    images_per_second: float | None
    gpu_memory_mb: float | None


class Epoch:
    """The epoch in progress of a session. Iterating gives the batches that are left; `learn` makes a step of each.

    It begins by putting the network into training mode, but for what is frozen in this epoch.
    Nothing here waits for the device but `status`, which a progress line asks for a few times a second.

    Args:
        session: What is trained.
        feed: The training split.

    Attributes:
        batches: Steps of the whole epoch.
    """

    def __init__(self, session: Session, feed: Feed) -> None:
        settings = session.settings
        if settings.balance == "sample":
            order = balanced_order(settings.seed, session.epoch, torch.tensor(feed.split.labels))
        else:
            order = epoch_order(settings.seed, session.epoch, len(feed))
        order = whole_batches(order, settings.batch_size)
        self._session, self._feed = session, feed
        self._augmenter = Augmenter(settings, session.preprocessing)
        self._mixing = Mixing.of(settings, len(session.classes))
        self._size = settings.batch_size * settings.accumulate
        self.batches = -(-len(order) // self._size)
        session.batch = min(session.batch, self.batches)  # of other data, fewer than were learned from may be there
        begin = session.batch * self._size
        self._left, self._keys = order[begin:], draw_keys(order, len(feed))[begin:]
        session.network.train()
        if session.parts is not None:
            freeze(session.network, session.parts, settings, session.epoch)
        self._began = time.perf_counter()
        self._samples_before = session.samples
        self._scale = plateau_scale(session.remembered)
        self._wait_seconds = 0.0
        if session.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(session.device)

    def __len__(self) -> int:
        """Batches that are left at the beginning."""
        return -(-len(self._left) // self._size)

    def __iter__(self) -> Iterator[Batch]:
        prepare = partial(self._augmenter.photo, epoch=self._session.epoch)
        batches = self._feed.batches(self._size, self._left, keys=self._keys, prepare=prepare)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._wait_seconds += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def learn(
        self, batch: Batch, *, lr: float | None = None, before_update: Callable[[], None] = lambda: None
    ) -> tuple[Tensor, float]:
        """Makes a step of a batch.

        Args:
            batch: Of this epoch, in its order.
            lr: The learning rate; the schedule's by default.
            before_update: See `step`.

        Returns:
            The batch's mean loss, detached, and the learning rate.
        """
        session = self._session
        if lr is None:
            # Steps of this epoch's size: where --override changed it, `session.step` counts others too.
            position = session.epoch * self.batches + session.batch
            lr = learning_rate(session.settings, position, self.batches, self._scale)
            momentum = cycled_momentum(session.settings, position, self.batches)
            if momentum is not None:
                set_momentum(session.optimizer, momentum)
        inputs = self._feed.normalised(self._augmented(batch))
        inputs, targets = self._mixing(inputs, batch.labels, session.step)
        return step(session, inputs, targets, lr, before_update=before_update), lr

    def _augmented(self, batch: Batch) -> Tensor:
        """uint8 [B, C, h, w]: varied here where they lie in memory, else where they were decoded; last by one's own."""
        pictures = self._feed.pictures(batch)
        if self._feed.in_memory:
            pictures = self._augmenter.batch(pictures, self._session.epoch, batch.keys)
        session = self._session
        if session.own.transform is not None:
            pictures = transformed(session.own.transform, pictures, seed=session.settings.seed, step=session.step)
        return pictures

    @property
    def is_over(self) -> bool:
        """Whether every batch is learned from."""
        return self._session.batch == self.batches

    def pace(self) -> Pace:
        """How fast it went up to now. Right once the device has done what it was asked for."""
        seconds, images = time.perf_counter() - self._began, self._session.samples - self._samples_before
        device = self._session.device
        return Pace(
            seconds=seconds,
            wait_seconds=self._wait_seconds,
            images_per_second=images / seconds if images else None,
            gpu_memory_mb=torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
        )

    def status(self) -> str:
        """The epoch so far in a few words; waits for the steps in progress."""
        session = self._session
        if session.samples == 0:
            return ""
        loss, accuracy = session.loss_sum.item() / session.samples, session.correct.item() / session.samples
        group = session.optimizer.param_groups[0]
        rate = group["lr"] / group["lr_scale"]
        speed = self.pace().images_per_second or 0.0
        return f"loss {loss:.3f}  acc {100 * accuracy:.1f} %  lr {rate:.2g}  {speed:,.0f} images/s"
