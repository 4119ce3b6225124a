"""After the last step: the best bundle is measured, and the run told to be finished."""

from __future__ import annotations

from collections.abc import Callable

from cutaway.batches import Feed
from cutaway.checkpoints import Run, best_of, restore
from cutaway.datasets import Dataset
from cutaway.errors import BundleError
from cutaway.evaluation import evaluate_feed
from cutaway.metrics import measure
from cutaway.progress import Track
from cutaway.train.journal import EpochMetrics, Journal, write_test_metrics
from cutaway.train.loop import evaluation_batch
from cutaway.train.monitoring import stopped_early
from cutaway.train.session import Session
from cutaway.train.tensorboard import Board
from cutaway.train.trained import Trained


def finish(
    session: Session,
    dataset: Dataset,
    run: Run,
    metrics: list[EpochMetrics],
    was_finished: bool,
    track: Track,
    on_note: Callable[[str], None],
) -> Trained:
    """Measures the best bundle over the test split, and writes down how the run ended.

    Args:
        session: After its last step.
        dataset: Of the run.
        run: Where its bundles are.
        metrics: Of the epochs that this process trained.
        was_finished: Whether the run was measured before.
        track: Shows progress.
        on_note: Told of damaged bundles.

    Raises:
        BundleError: No epoch can be compared.
    """
    stored = run.bundles(on_damage=lambda error: on_note(str(error)))
    best, last = best_of(stored), stored[-1]
    stopped = stopped_early(session.settings, session.epoch, session.remembered)
    if best is None:
        raise BundleError(f"No epoch of {run.path} gave a {session.settings.monitor} that can be compared.")
    code = session.own.code
    restored = restore(best.path, network=code.network, allow_code=code.allowed, device=session.device)
    test = None
    measured: dict[str, float] = {}
    if len(dataset.test):
        network = restored.network
        feed = Feed(dataset.test, session.preprocessing, device=session.device, workers=session.settings.workers)
        answers = evaluate_feed(network, feed, batch_size=evaluation_batch(session.settings), track=track)
        test = measure(answers)
        measured = test.scalars("test") | session.own.measure(answers, "test")
        write_test_metrics(run, best, test)
        if (views := session.settings.tta) != "none":
            averaged = evaluate_feed(
                network, feed, batch_size=evaluation_batch(session.settings), track=track, views=views
            )
            measured |= {"tta_test_loss": averaged.loss, "tta_test_accuracy": averaged.accuracy}
    if metrics or not was_finished:
        board = Board(run, step=session.step)
        board.final(session.settings, session.step, best.manifest.metrics | measured)
        if test is not None:
            board.test(test, best.manifest.classes, session.step)
        board.close()
    # The journal last: its final line says that the run is finished.
    journal = Journal(run, step=session.step, epoch=session.epoch, own=session.own.monitorable)
    journal.final(session.step, measured)
    journal.close()
    return Trained(
        run=run.path,
        best=best,
        last=last,
        metrics=tuple(metrics),
        test=test,
        restored=restored,
        stopped_early=stopped,
        tta_accuracy=measured.get("tta_test_accuracy"),
    )
