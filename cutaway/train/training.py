"""A whole training: what comes before the loop, the loop, and what is measured after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import torch

from cutaway.batches import Feed
from cutaway.checkpoints import Run
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.saving import Saver
from cutaway.datasets import Dataset, as_dataset, names
from cutaway.datasets.duplicates import settled
from cutaway.devices import choose_device
from cutaway.durable import replace_bytes, replace_text
from cutaway.errors import BundleError, CutawayError, DataError, Interrupted
from cutaway.images import encode_png
from cutaway.networks import OwnCode
from cutaway.networks.own import Network, name_of
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings, to_yaml
from cutaway.train.augmentation import Augmenter, Mixing, picture_grid
from cutaway.train.callbacks import Callback
from cutaway.train.calling import until_the_end
from cutaway.train.data_notes import data_notes
from cutaway.train.fault_finding import NotFiniteError, explain
from cutaway.train.fine_tuning import find_start
from cutaway.train.finishing import finish
from cutaway.train.generators import deterministic
from cutaway.train.heap import kept_heap
from cutaway.train.journal import EpochMetrics, Journal
from cutaway.train.keeping import KeptData
from cutaway.train.loop import Loop
from cutaway.train.monitoring import check_monitor, is_over, stopped_early, why_stopped
from cutaway.train.own import INEXACT, Loss, Metric, OwnObjects, Transform, draws_elsewhere
from cutaway.train.preparing import check_data, check_may_go_on, decoded_once, describe_network, where_begun
from cutaway.train.recipe_notes import recipe_notes
from cutaway.train.session import Session, begin, resume
from cutaway.train.stopping import StopEarly, StopRequest, stop_on_signal
from cutaway.train.tensorboard import Board
from cutaway.train.trained import Trained
from cutaway.train.trouble import in_words


def train(
    settings: TrainSettings,
    *,
    network: Network | None = None,
    data: object = None,
    loss: Loss | None = None,
    transform: Transform | None = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Sequence[Callback] = (),
    allow_code: Collection[str] = (),
    override: Collection[str] = (),
    kept: KeptData | None = None,
    track: Track = silent,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Trains a network, or goes on with the run that is already at `settings.out`.

    For every committed bundle, a process that goes on from it computes the same bytes as the process that wrote it
    would have: with the same code, versions, device type and number of threads. Where one of these differs, the
    manifest of every later bundle says so under `resumed`.

    What a person hands in beside the settings is recorded by its qualified name, and has to be handed in again to go
    on: the same call does it. Another loss or transform than before is refused unless `override` names it.

    Args:
        settings: What to train.
        network: In place of `settings.network`: a module, which is copied and not changed, or a function or class that
            builds one once the generators are seeded. Of `num_classes`, `input_shape` and `network_arguments`, it is
            given by name those that it takes.
        data: In place of `settings.data`: a `Dataset`, or whatever `as_dataset` makes one of.
        loss: In place of the settings' loss: a function of logits [B, K] and targets (int64 [B]; float32 [B, K] where
            mixup or cutmix mixes labels) to a scalar, the batch's mean. `valid_loss` stays the cross-entropy.
        transform: Of training pictures, uint8 [B, C, h, w], to the same; after the settings' augmentation. Where it
            takes a second argument, that is a generator, the same for the same seed and step. It may draw from it or
            from the global generators. See `per_picture` for transforms of one picture.
        metrics: Name -> function of logits [N, K] and labels [N] of the validation split to a number, which is in the
            journal, on the board and in bundles under `valid_NAME`, and may be monitored; at the end also of the test
            split, under `test_NAME` in the journal.
        callbacks: See `Callback`.
        allow_code: Modules that a `settings.network` of the form `python:module:factory` may be imported from.
        override: Names of settings that may differ from those that the run was begun with.
        kept: Where a process trains several runs: keeps the data of one for the next that asks for the same.
        track: Shows progress.
        on_epoch: Called after each epoch.
        on_note: Called with a sentence where something happened that a person should know.

    Raises:
        CutawayError: Something about the settings, the data, the device or the run's directory is wrong.
        Interrupted: SIGTERM or SIGINT came; the batch in hand was finished and saved.
    """
    settings = settings.changed()  # pydantic's `model_copy` lets anything in
    run = Run(settings.out)
    device = choose_device(settings.device)
    kept = kept or KeptData()
    own = OwnObjects(OwnCode(network, tuple(allow_code)), loss, transform, dict(metrics or {}), tuple(callbacks))
    check_monitor(settings, own.monitorable)
    if network is not None:
        settings = settings.model_copy(update={"network": name_of(network)})
    own.check_beside(settings)
    if data is None:
        try:
            dataset = kept.load(settings, track=track)
        except DataError as error:
            error.hint = where_begun(settings, run) or error.hint
            raise
    else:
        made = as_dataset(data, seed=settings.seed, valid_share=settings.valid_share)
        dataset = kept.take(settled(made, settings.duplicates))
        settings = settings.model_copy(
            update={"data": dataset.name if dataset.name in names() else f"own:{dataset.name}"}
        )
        check_data(settings, dataset)
    with (
        only_writer(run.path),
        deterministic(device, settings.threads),
        kept_heap(),
        stop_on_signal() as stop,
        in_words(settings),
    ):
        try:
            return _run(settings, own, override, run, device, kept, dataset, stop, track, on_epoch, on_note)
        except StopEarly:
            said = "Stopped outside the training steps; the same command goes on from there."
            raise Interrupted(stop.signum or 0, said) from None


def _run(
    settings: TrainSettings,
    own: OwnObjects,
    override: Collection[str],
    run: Run,
    device: torch.device,
    kept: KeptData,
    dataset: Dataset,
    stop: StopRequest,
    track: Track,
    on_epoch: Callable[[EpochMetrics], None],
    on_note: Callable[[str], None],
) -> Trained:
    """Goes on with the run or begins it, trains, and measures."""
    watched = stop.watching(track)
    decoded = partial(
        kept.into_memory, limit_bytes=settings.memory_limit * 10**6, names=decoded_once(settings), track=watched
    )
    run.clear_temporary()
    stored = run.newest_whole(lambda error: on_note(f"{error} It was set aside; going on from the one before."))
    if stored is None:
        start = find_start(settings)
        preprocessing = kept.describe_input(settings, dataset, start, track=watched)
        spec = describe_network(settings, dataset, preprocessing, own.code)
        dataset = decoded(dataset, preprocessing)
        session = begin(settings, dataset, spec, preprocessing, device, start, on_note, own)
    else:
        overridden = check_may_go_on(settings, dataset, stored, override, own)
        dataset = decoded(dataset, stored.manifest.preprocessing)
        session = resume(settings, dataset, stored, device, overridden, own)
        on_note(_going_on(run, session))
    on_note(_described(session, dataset))
    num_stages = 0 if session.parts is None else len(session.parts.stages)
    for note in (*data_notes(settings, dataset), *recipe_notes(settings, len(dataset.train), num_stages)):
        on_note(note)
    run.create()  # not before, so that what cannot be trained leaves no run behind
    try:
        replace_text(run.configuration, to_yaml(settings))
    except OSError as error:
        raise BundleError(
            f"The run {run.path} cannot be written: {error.strerror or error}.",
            hint="Make room or choose another --out.",
        ) from error

    def rest() -> Trained:
        was_finished = run.is_finished()
        try:
            trained = _train(session, dataset, run, stop, track, on_epoch, on_note)
        except NotFiniteError as error:
            raise _explained(error, session, dataset, run, watched, on_note) from None
        if stopped_early(settings, session.epoch, session.remembered):
            on_note(
                f"Stopped early after epoch {session.epoch} of {settings.epochs}: "
                f"{why_stopped(settings, session.remembered)}."
            )
        return finish(session, dataset, run, trained, was_finished, watched, on_note)

    return until_the_end(session, rest)


def _described(session: Session, dataset: Dataset) -> str:
    sizes = (
        f"{len(dataset.train):,} training, {len(dataset.valid):,} validation and {len(dataset.test):,} test pictures"
    )
    files = "file" if dataset.num_skipped == 1 else "files"
    skipped = f" ({dataset.num_skipped:,} unreadable {files} left out)" if dataset.num_skipped else ""
    parameters = sum(parameter.numel() for parameter in session.network.parameters())
    channels, height, width = session.spec.input_shape
    return (
        f"{dataset.name}: {sizes} of {len(dataset.classes)} classes{skipped}. "
        f"{session.spec.name}: {parameters:,} parameters, input {channels}x{height}x{width}, on {session.device}."
    )


def _going_on(run: Run, session: Session) -> str:
    latest = session.resumed[-1]
    epochs = session.settings.epochs
    where = f"in epoch {session.epoch + 1} of {epochs}"
    if is_over(session.settings, session.epoch, session.remembered):
        where = "its last"
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
    journal = Journal(run, step=session.step, epoch=session.epoch, own=session.own.monitorable)
    board = Board(run, step=session.step)
    try:
        if session.step == 0:
            first = next(feed.batches(min(32, len(feed))))
            if session.own.transform is not None and draws_elsewhere(session.own.transform, feed.pictures(first)):
                session.remembered[INEXACT] = "the transform draws from a generator of its own, which no bundle holds"
                on_note("A resumed run will not equal this one: the transform draws from a generator of its own.")
            board.begin(session.network, feed.pictures(first), feed.inputs(first), on_note)
            _show_augmented(session, dataset, run, board, on_note)
        loop = Loop(session, feed, valid, run, saver, journal, board, stop, track, on_epoch, on_note)
        return loop.run()
    finally:
        try:
            journal.close()
            board.close()
        except OSError as error:
            # What is told already weighs more; bundles are safe without the last lines of the journal.
            on_note(f"The journal of {run.path} is not complete: {error.strerror or error}.")


def _show_augmented(session: Session, dataset: Dataset, run: Run, board: Board, on_note: Callable[[str], None]) -> None:
    """Draws what augmentation makes of some training pictures, for TensorBoard and the report."""
    augmenter, mixing = (
        Augmenter(session.settings, session.preprocessing),
        Mixing.of(session.settings, len(session.classes)),
    )
    if not augmenter and not mixing:
        return
    grid = picture_grid(dataset.train, session.preprocessing, augmenter, mixing)
    board.picture("pictures/augmented", grid)
    try:
        replace_bytes(run.augmented, encode_png(grid))
    except OSError as error:
        # Training needs no picture of itself; a full disk is told by what does need it.
        on_note(f"{run.augmented} cannot be written: {error.strerror or error}.")


def _explained(
    error: NotFiniteError,
    session: Session,
    dataset: Dataset,
    run: Run,
    track: Track,
    on_note: Callable[[str], None],
) -> CutawayError:
    """The error with the layer that it began at, unless a signal asks for the end before that is found."""
    device = session.device
    # Layer by layer, as they are looked at.
    settings = session.settings.model_copy(update={"compile": False})
    stored = run.newest_whole(lambda damage: on_note(str(damage)))

    def again() -> Session:
        if stored is None:
            return begin(
                settings, dataset, session.spec, session.preprocessing, device, find_start(settings), own=session.own
            )
        return resume(settings, dataset, stored, device, own=session.own)

    feed = Feed(dataset.train, session.preprocessing, device=device, workers=settings.workers)
    try:
        return explain(error, session, again, feed, track=track)
    except StopEarly:
        return error
