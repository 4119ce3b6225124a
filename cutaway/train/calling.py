"""Calls a person's callbacks at the moments of a training, so that they leave no trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from cutaway.errors import Interrupted
from cutaway.train.callbacks import Begun, Callback, Ended, EpochDone, Saved, StepDone
from cutaway.train.generators import generator_states, restore_generators
from cutaway.train.journal import EpochMetrics
from cutaway.train.session import Session
from cutaway.train.stopping import StopEarly
from cutaway.train.trained import Trained


class Calls:
    """Calls a training's callbacks; without any, each call is one comparison.

    Args:
        session: What is trained, with its callbacks.
        settle: Returns when nothing reads the weights any more.

    Attributes:
        raised: What a callback raised, if one did.
    """

    def __init__(self, session: Session, settle: Callable[[], None]) -> None:
        self._callbacks, self._session, self._settle = session.own.callbacks, session, settle
        self.raised: Exception | None = None

    def begin(self) -> None:
        """Before the first step."""
        session = self._session
        if self._callbacks:
            event = Begun(session.settings, session.spec, session.classes, session.network, session.step, session.epoch)
            self._call("on_begin", event)

    def step(self, loss: Tensor, lr: float) -> None:
        """After a step."""
        session = self._session
        if self._callbacks:
            self._call("on_step", StepDone(session.step, session.epoch + 1, lr, loss, session.network))

    def epoch(self, metrics: EpochMetrics) -> None:
        """After an epoch."""
        if self._callbacks:
            self._call("on_epoch", EpochDone(metrics, self._session.judged))

    def saved(self, path: Path, step: int) -> None:
        """Once a bundle is on disk."""
        if self._callbacks:
            self._call("on_save", Saved(path, step))

    def _call(self, name: str, event: object) -> None:
        self._settle()
        with _generators_and_modes_kept(self._session):
            try:
                _tell(self._callbacks, name, event)
            except Exception as error:
                self.raised = error
                raise


def until_the_end(session: Session, work: Callable[[], Trained]) -> Trained:
    """Does what is left of a training, and tells its callbacks how that ended."""
    try:
        trained = work()
    except Exception as error:
        interrupted = isinstance(error, Interrupted | StopEarly)
        _tell(session.own.callbacks, "on_end", Ended(session.step, "interrupted" if interrupted else "failed"))
        raise
    _tell(session.own.callbacks, "on_end", Ended(session.step, "finished", trained))
    return trained


def _tell(callbacks: Sequence[Callback], name: str, event: object) -> None:
    """Calls one method of each; an exception says which callback it comes from."""
    for callback in callbacks:
        try:
            getattr(callback, name)(event)
        except Exception as error:
            error.add_note(f"raised by {type(callback).__name__}.{name} of a cutaway training")
            raise


@contextmanager
def _generators_and_modes_kept(session: Session) -> Iterator[None]:
    states = generator_states(session.device)
    modes = [(module, module.training) for network in {session.network, session.judged} for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        restore_generators(states, session.device)
