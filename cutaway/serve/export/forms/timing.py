"""How long files take for a picture, side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.preprocessing.spec import Pixels
from cutaway.progress import Track, silent
from cutaway.serve.classifier import Classifier

BATCH_SIZES = (1, 8)

_ROUNDS = 31
_MAX_SECONDS = 10.0
_FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Latencies:
    """Medians over interleaved rounds.

    Attributes:
        milliseconds: Name of a file to batch size to the time of one run, from pixels to probabilities and heat-maps.
        load: Processes that wanted to run on this machine in the minute before; None where the system does not tell.
        num_cores: Of this machine, that this process may use.
    """

    milliseconds: Mapping[str, Mapping[int, float]]
    load: float | None
    num_cores: int

    @property
    def was_loaded(self) -> bool:
        """Whether others were at work on at least half of the cores, so that the times say little."""
        return self.load is not None and self.load > self.num_cores / 2 + 1


def time_side_by_side(
    classifiers: Mapping[str, Classifier], pictures: Sequence[Pixels], *, track: Track = silent
) -> Latencies:
    """Times every file in turn, round after round, so that a busy moment of the machine meets all of them.

    Args:
        classifiers: By name, warmed up.
        pictures: At least one, uint8 [H, W, 1 or 3]; brought to the network's size before the clock starts.
        track: Told of every round.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    taken: dict[str, dict[int, float]] = {name: {} for name in classifiers}
    for batch_size in BATCH_SIZES:
        batches = {
            name: [classifier.metadata.preprocessing.picture(pictures[at % len(pictures)]) for at in range(batch_size)]
            for name, classifier in classifiers.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in classifiers}
        begun = time.perf_counter()
        for done in track(range(_ROUNDS), f"timing batches of {batch_size}", _ROUNDS):
            if done >= _FEWEST_ROUNDS and time.perf_counter() - begun > _MAX_SECONDS:
                break
            for name, classifier in classifiers.items():
                # The first run wakes its own threads and lets those of the file before fall asleep.
                classifier(batches[name], top_k=1)
                start = time.perf_counter()
                classifier(batches[name], top_k=1)
                seconds[name].append(time.perf_counter() - start)
        for name, times in seconds.items():
            taken[name][batch_size] = 1000 * float(np.median(times))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Latencies(taken, load, cores)
