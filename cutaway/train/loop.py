"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from cutaway.batches import Feed
from cutaway.checkpoints import Run
from cutaway.checkpoints.saving import Saver
from cutaway.errors import BundleError, CutawayError, Interrupted
from cutaway.evaluation import Evaluation, evaluate_feed, logits_of
from cutaway.progress import Track
from cutaway.train.journal import EpochMetrics, Journal
from cutaway.train.order import epoch_order, whole_batches
from cutaway.train.recipe import learning_rate
from cutaway.train.session import Session
from cutaway.train.stopping import StopEarly, StopRequest
from cutaway.train.tensorboard import Board

EVALUATION_BATCH = 512


@dataclass
class Loop:
    """Trains a session to its last epoch. `run` is the loop; the rest is what happens beside the steps.

    Attributes:
        session: What is trained.
        train: The training split.
        valid: The validation split.
        run: Where bundles go.
        saver: Writes them.
        journal: Metrics for programs.
        board: Metrics for people.
        stop: What signals ask for.
        track: Shows progress.
        on_epoch: Called after each epoch.
        on_note: Called with a sentence where a person should know.
    """

    session: Session
    train: Feed
    valid: Feed
    run_directory: Run
    saver: Saver
    journal: Journal
    board: Board
    stop: StopRequest
    track: Track
    on_epoch: Callable[[EpochMetrics], None]
    on_note: Callable[[str], None]
    _saved_step: int | None = None
    _saved_at: float = field(default_factory=time.monotonic)
    _failures: list[str] = field(default_factory=list)

    def run(self) -> list[EpochMetrics]:
        """Trains what is left.

        Raises:
            Interrupted: A signal asked for the end; everything is saved.
            CutawayError: Saving failed, the data cannot be read any more, or the loss is no number.
        """
        history = []
        try:
            while self.session.epoch < self.session.settings.epochs:
                seconds, images = self._train_epoch()
                metrics = self._metrics(self._validate(), seconds, images)
                self._end_epoch(metrics)
                history.append(metrics)
            self.saver.wait()
            self._tell_failures()
        except StopEarly:
            raise self._interrupted() from None
        except Exception as error:
            # What went wrong outside a step left a whole number of steps behind, which are worth keeping.
            if self.session.sound and not self.saver.failed:
                self._save_if_new()
            if isinstance(error, OSError):
                raise BundleError(
                    f"The run {self.run_directory.path} cannot be written: {error.strerror or error}.",
                    hint="Make room or choose another --out, and give the command again.",
                ) from error
            raise
        finally:
            self.saver.join()
        return history

    def _train_epoch(self) -> tuple[float, int]:
        """Trains what is left of the epoch in progress; returns its seconds and the number of pictures."""
        session, settings = self.session, self.session.settings
        order = whole_batches(epoch_order(settings.seed, session.epoch, len(self.train)), settings.batch_size)
        batches = -(-len(order) // settings.batch_size)
        left = order[session.batch * settings.batch_size :]
        self._before_workers(self.train)
        session.network.train()
        began = time.perf_counter()
        title = f"epoch {session.epoch + 1}/{settings.epochs}"
        for batch in self.track(self.train.batches(settings.batch_size, left), title, batches - session.batch):
            lr = learning_rate(settings, session.step, settings.epochs * batches)
            loss = step(session, self.train.inputs(batch), batch.labels, lr)
            if session.step % settings.log_every == 0 or session.batch == batches:
                self._log(loss.item(), lr)
            self._between_steps(ends_epoch=session.batch == batches)
        return time.perf_counter() - began, len(left)

    def _between_steps(self, *, ends_epoch: bool) -> None:
        """Whatever is due now: the end, a bundle, or the news that an earlier one failed."""
        settings = self.session.settings
        self.saver.check()
        self._tell_failures()
        if self.stop.signum is not None:
            raise StopEarly
        if ends_epoch and not self.stop.save:
            return  # the bundle after the validation is due in a moment, and holds more
        due_by_step = settings.save_every and self.session.step % settings.save_every == 0
        due_by_time = settings.save_minutes and time.monotonic() - self._saved_at >= 60 * settings.save_minutes
        if due_by_step or due_by_time or self.stop.save:
            self.stop.save = False
            self._save()

    def _log(self, loss: float, lr: float) -> None:
        self.journal.step(self.session.step, loss=loss, lr=lr)
        self.board.step(self.session.step, loss=loss, lr=lr)
        self._check_finite(loss)

    def _check_finite(self, loss: float) -> None:
        """Stops before weights are saved that no later step could mend."""
        if not math.isfinite(loss):
            self.session.sound = False
            kept = self.run_directory.bundle_paths()
            raise CutawayError(
                f"The loss became {loss} by step {self.session.step}, so the training stopped.",
                hint="Give a lower --lr." + (f" What was saved before is untouched: {kept[-1]}." if kept else ""),
            )

    def _validate(self) -> Evaluation:
        self._before_workers(self.valid)
        return evaluate_feed(
            self.session.network,
            self.valid,
            batch_size=EVALUATION_BATCH,
            track=self.stop.watching(self.track),
            channels_last=self.session.settings.channels_last,
        )

    def _metrics(self, answers: Evaluation, seconds: float, images: int) -> EpochMetrics:
        session = self.session
        return EpochMetrics(
            epoch=session.epoch + 1,
            step=session.step,
            lr=learning_rate(session.settings, session.step - 1, session.settings.epochs * session.batch),
            train_loss=session.loss_sum.item() / session.samples,
            train_accuracy=session.correct.item() / session.samples,
            valid_loss=answers.loss,
            valid_accuracy=answers.accuracy,
            seconds=seconds,
            images_per_second=images / seconds if images else None,
        )

    def _end_epoch(self, metrics: EpochMetrics) -> None:
        self._check_finite(metrics.train_loss)
        self.journal.epoch(metrics)
        self.board.epoch(metrics, self.session.network)
        self.session.end_epoch()
        names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
        self._save({name: getattr(metrics, name) for name in names})
        self.on_epoch(metrics)

    def _save(self, metrics: dict[str, float] | None = None) -> None:
        # On disk before the bundle is, so that no committed bundle is ahead of the journal.
        self.journal.sync()
        self.saver.wait()
        self._tell_failures()
        self._check_finite(float(self.session.loss_sum.item()))
        self._failures = self.session.save(self.run_directory, self.saver, metrics=metrics)
        self._saved_step = self.session.step
        self._saved_at = time.monotonic()

    def _save_if_new(self) -> None:
        """Saves where the training stands, unless that is saved already; returns when it is on disk."""
        if self.session.step not in (0, self._saved_step):
            self._save()
        self.saver.wait()
        self._tell_failures()

    def _interrupted(self) -> Interrupted:
        self._save_if_new()
        said = f"Stopped after step {self.session.step}; the same command goes on from there."
        return Interrupted(self.stop.signum or 0, said)

    def _tell_failures(self) -> None:
        while self._failures:
            self.on_note(self._failures.pop(0))

    def _before_workers(self, feed: Feed) -> None:
        """Lets the saving thread end before processes are forked, which would inherit its locks."""
        if feed.forks:
            self.saver.wait()


def step(session: Session, inputs: torch.Tensor, labels: torch.Tensor, lr: float) -> torch.Tensor:
    """One step of the optimizer.

    Args:
        session: Changed in place. While this runs, its state is not that of a whole number of steps.
        inputs: float32 [B, C, h, w].
        labels: int64 [B].
        lr: The learning rate.

    Returns:
        The batch's mean loss, detached.
    """
    session.sound = False
    if session.settings.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    for group in session.optimizer.param_groups:
        group["lr"] = lr
    session.optimizer.zero_grad()
    logits = logits_of(session.network(inputs))
    loss = F.cross_entropy(logits, labels, label_smoothing=session.settings.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    session.optimizer.step()
    loss = loss.detach()
    session.loss_sum += loss.to(session.loss_sum.dtype) * len(labels)
    session.correct += (logits.detach().argmax(1) == labels).sum()
    session.samples += len(labels)
    session.step += 1
    session.batch += 1
    session.sound = True
    return loss
