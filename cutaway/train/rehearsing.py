"""A training that leaves nothing behind: its data, its network and its steps, but no run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from cutaway.batches import Batch, Feed
from cutaway.datasets import into_memory
from cutaway.devices import choose_device
from cutaway.networks import OwnCode
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings
from cutaway.train.epoch import Epoch
from cutaway.train.fine_tuning import find_start
from cutaway.train.generators import deterministic, generator_states, restore_generators
from cutaway.train.own import OwnObjects
from cutaway.train.preparing import decoded_once, describe_input, describe_network, load_data
from cutaway.train.session import Session, begin
from cutaway.train.trouble import in_words


@contextmanager
def rehearsal(
    settings: TrainSettings, *, allow_code: Collection[str] = (), track: Track = silent
) -> Iterator[tuple[Session, Feed]]:
    """A session as `train` begins it with these settings, and its training split. Random states come back afterwards.

    Args:
        settings: What would be trained; `out` is not looked at.
        allow_code: As for `train`.
        track: Shows progress.

    Raises:
        CutawayError: Something about the settings, the data or the device is wrong.
    """
    device = choose_device(settings.device)
    own = OwnObjects(OwnCode(None, tuple(allow_code)))
    with deterministic(device, settings.threads), random_states_kept(device), in_words(settings):
        dataset = load_data(settings, track=track)
        start = find_start(settings)
        preprocessing = describe_input(settings, dataset, start, track=track)
        spec = describe_network(settings, dataset, preprocessing, own.code)
        limit = settings.memory_limit * 10**6
        names = decoded_once(settings)
        dataset = into_memory(dataset, preprocessing, limit_bytes=limit, names=names, track=track)
        session = begin(settings, dataset, spec, preprocessing, device, start, own=own)
        yield session, Feed(dataset.train, preprocessing, device=device, workers=settings.workers)


@contextmanager
def random_states_kept(device: torch.device) -> Iterator[None]:
    """Puts the random states back that anything on `device` may draw from."""
    states = generator_states(device)
    try:
        yield
    finally:
        restore_generators(states, device)


def batches_without_end(session: Session, feed: Feed) -> Iterator[tuple[Epoch, Batch]]:
    """The training's batches, each with its epoch to learn it in, from one epoch into the next."""
    while True:
        epoch = Epoch(session, feed)
        for batch in epoch:
            yield epoch, batch
        session.end_epoch()
