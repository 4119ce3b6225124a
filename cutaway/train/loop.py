"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from cutaway.batches import Feed
from cutaway.checkpoints import Run, Stored, best_of, restore
from cutaway.checkpoints.lock import only_writer
from cutaway.datasets import Dataset, into_memory
from cutaway.devices import choose_device
from cutaway.errors import BundleError, CutawayError, Interrupted
from cutaway.evaluation import evaluate_feed, logits_of
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings, to_yaml
from cutaway.train.generators import deterministic
from cutaway.train.journal import EpochMetrics, Journal
from cutaway.train.order import epoch_order, whole_batches
from cutaway.train.preparing import (
    check_may_go_on,
    describe_input,
    describe_network,
    load_data,
)
from cutaway.train.recipe import learning_rate
from cutaway.train.session import Session, begin, resume
from cutaway.train.stopping import StopRequest, stop_on_signal
from cutaway.train.tensorboard import Board

Note = Callable[[str], None]
_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        run: The run's directory.
        best: The bundle with the best monitored metric.
        last: The bundle after the last epoch.
        metrics: Of each epoch that this process trained.
        test_accuracy: Of the best bundle, over the test split; None where that is empty.
    """

    run: Path
    best: Stored
    last: Stored
    metrics: tuple[EpochMetrics, ...]
    test_accuracy: float | None


def train(
    settings: TrainSettings,
    *,
    track: Track = silent,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    on_note: Note = lambda _: None,
) -> Trained:
    """Trains a network, or goes on with the run that is already at `settings.out`.

    For every committed bundle, a process that goes on from it computes the same bytes as the process that wrote it
    would have: with the same code, versions, device type and number of threads.

    Args:
        settings: What to train.
        track: Shows progress.
        on_epoch: Called after each epoch.
        on_note: Called with a sentence where something happened that a person should know.

    Raises:
        CutawayError: Something about the settings, the data, the device or the run's directory is wrong.
        Interrupted: SIGTERM or SIGINT came; the batch in hand was finished and saved.
    """
    run = Run(settings.out)
    device = choose_device(settings.device)
    dataset = load_data(settings, track=track)
    with only_writer(run.path), deterministic(device), stop_on_signal() as stop:
        run.clear_temporary()
        stored = run.newest_whole(lambda error: on_note(f"{error} It was set aside; going on from the one before."))
        if stored is not None:
            check_may_go_on(settings, dataset, stored)
            preprocessing = stored.manifest.preprocessing
        else:
            preprocessing = describe_input(settings, dataset, track=track)
        dataset = into_memory(dataset, preprocessing, limit_bytes=settings.memory_limit * 10**6, track=track)
        if stored is not None:
            session = resume(settings, dataset, stored, device)
            on_note(f"Going on with {run.path} after step {session.step}, {session.epoch} whole epochs.")
        else:
            spec = describe_network(settings, dataset, preprocessing)
            session = begin(settings, dataset, spec, preprocessing, device)
        run.configuration.write_text(to_yaml(settings), encoding="utf-8")
        metrics = _epochs(session, dataset, run, stop, track, on_epoch, on_note)
        return _finish(session, dataset, run, metrics, track)


def _epochs(
    session: Session,
    dataset: Dataset,
    run: Run,
    stop: StopRequest,
    track: Track,
    on_epoch: Callable[[EpochMetrics], None],
    on_note: Note,
) -> list[EpochMetrics]:
    settings = session.settings
    feed = Feed(dataset.train, session.preprocessing, device=session.device, workers=settings.workers)
    valid = Feed(dataset.valid, session.preprocessing, device=session.device, workers=settings.workers)
    journal = Journal(run, step=session.step, epoch=session.epoch)
    board = Board(run, step=session.step)
    history = []
    try:
        if session.step == 0:
            first = next(feed.batches(min(32, len(feed))))
            board.begin(session.network, feed.pictures(first), feed.inputs(first), on_note)
        while session.epoch < settings.epochs:
            seconds, images = _train_epoch(session, feed, run, journal, board, stop, track)
            answers = evaluate_feed(
                session.network,
                valid,
                batch_size=_EVALUATION_BATCH,
                track=track,
                channels_last=settings.channels_last,
            )
            if stop.signum is not None:
                raise _interrupted(session, run, stop.signum)
            metrics = EpochMetrics(
                epoch=session.epoch + 1,
                step=session.step,
                lr=session.optimizer.param_groups[0]["lr"],
                train_loss=session.loss_sum.item() / session.samples,
                train_accuracy=session.correct.item() / session.samples,
                valid_loss=answers.loss,
                valid_accuracy=answers.accuracy,
                seconds=seconds,
                images_per_second=images / seconds if seconds else 0.0,
            )
            journal.epoch(metrics)
            board.epoch(metrics, session.network)
            session.epoch += 1
            session.batch = 0
            session.begin_epoch()
            names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
            session.save(run, phase="validated", metrics={name: getattr(metrics, name) for name in names})
            run.prune(settings.keep_last)
            history.append(metrics)
            on_epoch(metrics)
    finally:
        journal.close()
        board.close()
    return history


def _train_epoch(
    session: Session, feed: Feed, run: Run, journal: Journal, board: Board, stop: StopRequest, track: Track
) -> tuple[float, int]:
    """Trains what is left of the epoch in progress; returns its seconds and the number of pictures."""
    settings = session.settings
    order = whole_batches(epoch_order(settings.seed, session.epoch, len(feed)), settings.batch_size)
    batches = -(-len(order) // settings.batch_size)
    left = order[session.batch * settings.batch_size :]
    began = time.perf_counter()
    session.network.train()
    title = f"epoch {session.epoch + 1}/{settings.epochs}"
    for batch in track(feed.batches(settings.batch_size, left), title, batches - session.batch):
        lr = learning_rate(settings, session.step, settings.epochs * batches)
        loss, correct = _step(session, feed.inputs(batch), batch.labels, lr)
        session.loss_sum += loss.to(session.loss_sum.dtype) * len(batch.labels)
        session.correct += correct
        session.samples += len(batch.labels)
        session.step += 1
        session.batch += 1
        if session.step % settings.log_every == 0 or session.batch == batches:
            value = loss.item()
            journal.step(session.step, loss=value, lr=lr)
            board.step(session.step, loss=value, lr=lr)
            _check_finite(value, session, run)
        if stop.signum is not None:
            raise _interrupted(session, run, stop.signum)
        if settings.save_every and session.step % settings.save_every == 0 and session.batch < batches:
            journal.sync()
            session.save(run, phase="training", metrics={})
            run.prune(settings.keep_last)
    return time.perf_counter() - began, len(left)


def _step(session: Session, inputs: torch.Tensor, labels: torch.Tensor, lr: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimizer; returns the batch's mean loss and its number of right answers."""
    if session.settings.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    for group in session.optimizer.param_groups:
        group["lr"] = lr
    session.optimizer.zero_grad()
    logits = logits_of(session.network(inputs))
    loss = F.cross_entropy(logits, labels, label_smoothing=session.settings.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    session.optimizer.step()
    return loss.detach(), (logits.detach().argmax(1) == labels).sum()


def _check_finite(loss: float, session: Session, run: Run) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        kept = run.bundle_paths()
        raise CutawayError(
            f"The loss became {loss} at step {session.step}, so the training stopped.",
            hint="Give a lower --lr." + (f" What was saved before is untouched: {kept[-1]}." if kept else ""),
        )


def _interrupted(session: Session, run: Run, signum: int) -> Interrupted:
    """Saves where the training stands, unless that is saved already."""
    progress = (session.epoch, session.batch, session.step)
    newest = run.bundles(on_damage=lambda _: None)[-1:]
    saved = [(b.manifest.progress.epoch, b.manifest.progress.batch, b.manifest.progress.step) for b in newest]
    if progress not in saved:
        session.save(run, phase="training", metrics={})
    return Interrupted(signum, f"Stopped after step {session.step}; the same command goes on from there.")


def _finish(session: Session, dataset: Dataset, run: Run, metrics: list[EpochMetrics], track: Track) -> Trained:
    stored = run.bundles()
    best, last = best_of(stored), stored[-1]
    if best is None:
        raise BundleError(f"No epoch of {run.path} gave a {session.settings.monitor} that can be compared.")
    accuracy = None
    if len(dataset.test):
        network = restore(best.path, device=session.device).network
        test = Feed(dataset.test, session.preprocessing, device=session.device, workers=session.settings.workers)
        answers = evaluate_feed(network, test, batch_size=_EVALUATION_BATCH, track=track)
        accuracy = answers.accuracy
        journal = Journal(run, step=session.step, epoch=session.epoch)
        journal.final(session.step, {"test_loss": answers.loss, "test_accuracy": accuracy})
        journal.close()
        if metrics:
            board = Board(run, step=session.step)
            board.final(session.settings, metrics[-1], accuracy)
            board.close()
    return Trained(run=run.path, best=best, last=last, metrics=tuple(metrics), test_accuracy=accuracy)
