"""A whole training: what comes before the loop, the loop, and what is measured after it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from cutaway.batches import Feed
from cutaway.checkpoints import Run, Stored, best_of, restore
from cutaway.checkpoints.durable import replace_text
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.saving import Saver
from cutaway.datasets import Dataset, into_memory
from cutaway.devices import choose_device
from cutaway.errors import BundleError, Interrupted
from cutaway.evaluation import evaluate_feed
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings, to_yaml
from cutaway.train.generators import deterministic
from cutaway.train.journal import EpochMetrics, Journal
from cutaway.train.loop import EVALUATION_BATCH, Loop
from cutaway.train.preparing import check_may_go_on, describe_input, describe_network, load_data
from cutaway.train.session import Session, begin, resume
from cutaway.train.stopping import StopEarly, StopRequest, stop_on_signal
from cutaway.train.tensorboard import Board


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
    override: Collection[str] = (),
    track: Track = silent,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Trains a network, or goes on with the run that is already at `settings.out`.

    For every committed bundle, a process that goes on from it computes the same bytes as the process that wrote it
    would have: with the same code, versions, device type and number of threads. Where one of these differs, the
    manifest of every later bundle says so under `resumed`.

    Args:
        settings: What to train.
        override: Names of settings that may differ from those that the run was begun with.
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
    with only_writer(run.path), deterministic(device, settings.threads), stop_on_signal() as stop:
        try:
            return _run(settings, override, run, device, dataset, stop, track, on_epoch, on_note)
        except StopEarly:
            said = "Stopped outside the training steps; the same command goes on from there."
            raise Interrupted(stop.signum or 0, said) from None


def _run(
    settings: TrainSettings,
    override: Collection[str],
    run: Run,
    device: torch.device,
    dataset: Dataset,
    stop: StopRequest,
    track: Track,
    on_epoch: Callable[[EpochMetrics], None],
    on_note: Callable[[str], None],
) -> Trained:
    """Goes on with the run or begins it, trains, and measures."""
    watched = stop.watching(track)
    limit_bytes = settings.memory_limit * 10**6
    run.create()
    run.clear_temporary()
    stored = run.newest_whole(lambda error: on_note(f"{error} It was set aside; going on from the one before."))
    if stored is None:
        preprocessing = describe_input(settings, dataset, track=watched)
        spec = describe_network(settings, dataset, preprocessing)
        dataset = into_memory(dataset, preprocessing, limit_bytes=limit_bytes, track=watched)
        session = begin(settings, dataset, spec, preprocessing, device)
    else:
        overridden = check_may_go_on(settings, dataset, stored, override)
        dataset = into_memory(dataset, stored.manifest.preprocessing, limit_bytes=limit_bytes, track=watched)
        session = resume(settings, dataset, stored, device, overridden)
        on_note(_going_on(run, session))
    on_note(_described(session, dataset))
    try:
        replace_text(run.configuration, to_yaml(settings))
    except OSError as error:
        raise BundleError(
            f"The run {run.path} cannot be written: {error.strerror or error}.",
            hint="Make room or choose another --out.",
        ) from error
    metrics = _train(session, dataset, run, stop, track, on_epoch, on_note)
    return _finish(session, dataset, run, metrics, watched, on_note)


def _described(session: Session, dataset: Dataset) -> str:
    sizes = (
        f"{len(dataset.train):,} training, {len(dataset.valid):,} validation and {len(dataset.test):,} test pictures"
    )
    skipped = f" ({dataset.num_skipped} unreadable files left out)" if dataset.num_skipped else ""
    parameters = sum(parameter.numel() for parameter in session.network.parameters())
    channels, height, width = session.spec.input_shape
    return (
        f"{dataset.name}: {sizes} of {len(dataset.classes)} classes{skipped}. "
        f"{session.spec.name}: {parameters:,} parameters, input {channels}x{height}x{width}, on {session.device}."
    )


def _going_on(run: Run, session: Session) -> str:
    latest = session.resumed[-1]
    epochs = session.settings.epochs
    where = "its last" if session.epoch == epochs else f"in epoch {session.epoch + 1} of {epochs}"
    said = f"Going on with {run.path} after step {session.step}, {where}."
    if latest.equality != "bitwise":
        said += f" Not bit for bit as an uninterrupted run: {'; '.join(latest.because)}."
    return said


def _train(
    session: Session,
    dataset: Dataset,
    run: Run,
    stop: StopRequest,
    track: Track,
    on_epoch: Callable[[EpochMetrics], None],
    on_note: Callable[[str], None],
) -> list[EpochMetrics]:
    feed = Feed(dataset.train, session.preprocessing, device=session.device, workers=session.settings.workers)
    valid = Feed(dataset.valid, session.preprocessing, device=session.device, workers=session.settings.workers)
    saver = Saver(in_background=session.settings.save_in_background)
    journal = Journal(run, step=session.step, epoch=session.epoch)
    board = Board(run, step=session.step)
    try:
        if session.step == 0:
            first = next(feed.batches(min(32, len(feed))))
            board.begin(session.network, feed.pictures(first), feed.inputs(first), on_note)
        loop = Loop(session, feed, valid, run, saver, journal, board, stop, track, on_epoch, on_note)
        return loop.run()
    finally:
        try:
            journal.close()
            board.close()
        except OSError as error:
            # What is told already weighs more; bundles are safe without the last lines of the journal.
            on_note(f"The journal of {run.path} is not complete: {error.strerror or error}.")


def _finish(
    session: Session,
    dataset: Dataset,
    run: Run,
    metrics: list[EpochMetrics],
    track: Track,
    on_note: Callable[[str], None],
) -> Trained:
    stored = run.bundles(on_damage=lambda error: on_note(str(error)))
    best, last = best_of(stored), stored[-1]
    if best is None:
        raise BundleError(f"No epoch of {run.path} gave a {session.settings.monitor} that can be compared.")
    accuracy = None
    if len(dataset.test):
        network = restore(best.path, device=session.device).network
        test = Feed(dataset.test, session.preprocessing, device=session.device, workers=session.settings.workers)
        answers = evaluate_feed(network, test, batch_size=EVALUATION_BATCH, track=track)
        accuracy = answers.accuracy
        journal = Journal(run, step=session.step, epoch=session.epoch)
        journal.final(session.step, {"test_loss": answers.loss, "test_accuracy": accuracy})
        journal.close()
        if metrics:
            board = Board(run, step=session.step)
            board.final(session.settings, metrics[-1], accuracy)
            board.close()
    return Trained(run=run.path, best=best, last=last, metrics=tuple(metrics), test_accuracy=accuracy)
