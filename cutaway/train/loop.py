"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutaway.batches import Feed
from cutaway.checkpoints import Run
from cutaway.checkpoints.saving import Saver
from cutaway.errors import BundleError, Interrupted
from cutaway.evaluation import Evaluation, evaluate_feed
from cutaway.metrics import SCALARS, measure
from cutaway.progress import Track
from cutaway.settings import TrainSettings
from cutaway.train.calling import Calls
from cutaway.train.epoch import Epoch, Pace
from cutaway.train.fault_finding import NotFiniteError
from cutaway.train.journal import EpochMetrics, Journal
from cutaway.train.monitoring import count_epoch, is_over, monitored
from cutaway.train.recipe import follow_plateau, learning_rate, plateau_scale
from cutaway.train.session import Session
from cutaway.train.stopping import StopEarly, StopRequest
from cutaway.train.tensorboard import Board

EVALUATION_BATCH = 512
# Without gradients so many pictures take less memory than one of training.
_EVALUATED_FOR_EACH_TRAINED = 4


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
    _on_disk: list[tuple[Path, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._calls = Calls(self.session, self.saver.copied)

    def run(self) -> list[EpochMetrics]:
        """Trains what is left.

        Raises:
            Interrupted: A signal asked for the end; everything is saved.
            CutawayError: Saving failed, the data cannot be read any more, or the loss is no number.
        """
        history = []
        try:
            self._calls.begin()
            while not is_over(self.session.settings, self.session.epoch, self.session.remembered):
                pace = self._train_epoch()
                metrics = self._metrics(self._validate(), pace)
                self._end_epoch(metrics)
                history.append(metrics)
            self.saver.wait()
            self._tell_news()
        except StopEarly:
            raise self._interrupted() from None
        except Exception as error:
            # What went wrong outside a step left a whole number of steps behind, which are worth keeping.
            if self.session.sound and not self.saver.failed:
                self._save_if_new()
            if isinstance(error, OSError) and error is not self._calls.raised:
                raise BundleError(
                    f"The run {self.run_directory.path} cannot be written: {error.strerror or error}.",
                    hint="Make room or choose another --out, and give the command again.",
                ) from error
            raise
        finally:
            self.saver.join()
        return history

    def _train_epoch(self) -> Pace:
        """Trains what is left of the epoch in progress."""
        session, settings = self.session, self.session.settings
        self._before_workers(self.train)
        epoch = Epoch(session, self.train)
        for batch in self.track(epoch, f"epoch {session.epoch + 1}/{settings.epochs}", len(epoch)):
            loss, lr = epoch.learn(batch, before_update=self.saver.before_update)
            if session.step % settings.log_every == 0 or epoch.is_over:
                self._log(loss.item(), lr)
            self._calls.step(loss, lr)
            self._between_steps(ends_epoch=epoch.is_over)
        return epoch.pace()

    def _between_steps(self, *, ends_epoch: bool) -> None:
        """Whatever is due now: the end, a bundle, or the news of an earlier one."""
        settings = self.session.settings
        self.saver.check()
        self._tell_news()
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
            self.saver.join()
            kept = self.run_directory.bundle_paths()
            raise NotFiniteError(loss, self.session.step, kept[-1] if kept else None)

    def _validate(self) -> Evaluation:
        self._before_workers(self.valid)
        return evaluate_feed(
            self.session.judged,
            self.valid,
            batch_size=evaluation_batch(self.session.settings),
            track=self.stop.watching(self.track),
            channels_last=self.session.settings.channels_last,
        )

    def _metrics(self, answers: Evaluation, pace: Pace) -> EpochMetrics:
        session = self.session
        measured: dict[str, Any] = dict.fromkeys(SCALARS) | measure(answers).scalars()
        last, scale = (session.epoch + 1) * session.batch - 1, plateau_scale(session.remembered)
        return EpochMetrics(
            epoch=session.epoch + 1,
            step=session.step,
            lr=learning_rate(session.settings, last, session.batch, scale),
            train_loss=session.loss_sum.item() / session.samples,
            train_accuracy=session.correct.item() / session.samples,
            **measured,
            own=session.own.measure(answers),
            seconds=pace.seconds,
            wait_seconds=pace.wait_seconds,
            images_per_second=pace.images_per_second,
            gpu_memory_mb=pace.gpu_memory_mb,
        )

    def _end_epoch(self, metrics: EpochMetrics) -> None:
        self._check_finite(metrics.train_loss)
        self.journal.epoch(metrics)
        self.board.epoch(metrics, self.session.network)
        settings, remembered, values = self.session.settings, self.session.remembered, metrics.scalars()
        count_epoch(settings, remembered, metrics.epoch, values)
        follow_plateau(settings, remembered, values[settings.monitor], monitored(settings).mode)
        self.session.end_epoch()
        self._save(values)
        self.on_epoch(metrics)
        self._calls.epoch(metrics)

    def _save(self, metrics: dict[str, float] | None = None) -> None:
        # On disk before the bundle is, so that no committed bundle is ahead of the journal.
        self.journal.sync()
        self.saver.wait()
        self._tell_news()
        self._check_finite(float(self.session.loss_sum.item()))
        self._failures = self.session.save(
            self.run_directory, self.saver, metrics=metrics, on_disk=lambda *bundle: self._on_disk.append(bundle)
        )
        self._saved_step = self.session.step
        self._saved_at = time.monotonic()

    def _save_if_new(self) -> None:
        """Saves where the training stands, unless that is saved already; returns when it is on disk."""
        if self.session.step not in (0, self._saved_step):
            self._save()
        self.saver.wait()
        self._tell_news()

    def _interrupted(self) -> Interrupted:
        self._save_if_new()
        said = f"Stopped after step {self.session.step}; the same command goes on from there."
        return Interrupted(self.stop.signum or 0, said)

    def _tell_news(self) -> None:
        """What happened in the background since."""
        while self._failures:
            self.on_note(self._failures.pop(0))
        while self._on_disk:
            self._calls.saved(*self._on_disk.pop(0))

    def _before_workers(self, feed: Feed) -> None:
        """Lets the saving thread end before processes are forked, which would inherit its locks."""
        if feed.forks:
            self.saver.wait()


def evaluation_batch(settings: TrainSettings) -> int:
    """Pictures that are evaluated at a time: fewer where a person chose small batches, as memory may be short."""
    return min(EVALUATION_BATCH, _EVALUATED_FOR_EACH_TRAINED * max(_EVALUATED_FOR_EACH_TRAINED, settings.batch_size))
