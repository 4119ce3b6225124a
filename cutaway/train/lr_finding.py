"""The learning rate range test: a few steps at ever higher rates, and the rate that the loss falls fastest at.

Leslie N. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3; with rates that
rise exponentially instead of linearly, as fastai does.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import CutawayError, SettingsError
from cutaway.evaluation import logits_of
from cutaway.progress import Track, silent
from cutaway.settings import TrainSettings
from cutaway.train.rehearsing import batches_without_end, random_states_kept, rehearsal

_LOWEST, _HIGHEST, _STEPS = 1e-6, 10.0, 100
_FEWEST_STEPS = 20
# The loss counts as diverged at so many times its smoothed minimum, as in fastai.
_DIVERGED = 4.0
_SMOOTHING = 0.75


@dataclass(frozen=True)
class LrCurve:
    """Loss against learning rate.

    Attributes:
        rates: The rate of each step, rising.
        losses: The loss of each step's batch, before the step.
        smoothed: The same without most of the noise of batches.
        steepest: The rate at which the smoothed loss falls fastest over the logarithm of the rate.
        tenth: A tenth of the rate at which the smoothed loss is lowest.
        diverged: Whether the loss left the scale before the highest rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    tenth: float
    diverged: bool

    @property
    def proposed(self) -> float:
        """The steepest, in two digits; the tenth is the careful choice, for long runs and fine-tuning."""
        return float(f"{self.steepest:.1e}")


def find_lr(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    lowest: float = _LOWEST,
    highest: float = _HIGHEST,
    num_steps: int = _STEPS,
) -> LrCurve:
    """Looks for a learning rate of any network, and leaves it, the optimizer and the random states as they were.

    Args:
        network: Copied, and the copy is trained.
        optimizer: Of the network's parameters; copied with it. All of its groups get the same rate.
        batches: Inputs and targets on the network's device; begun anew where they end.
        loss: From the network's output and the targets to a scalar.
        lowest: The first rate.
        highest: The last, unless the loss diverges before.
        num_steps: From the lowest to the highest.

    Raises:
        SettingsError: The range is empty or has too few steps.
        CutawayError: The loss fell at no rate.

    Example:
        >>> find_lr(network, torch.optim.SGD(network.parameters(), lr=1), DataLoader(dataset, 64)).proposed
    """
    device = next(network.parameters()).device
    with random_states_kept(device):
        # Together, so that the copied optimizer holds the copied network's parameters.
        network, optimizer = copy.deepcopy((network, optimizer))
        endless = itertools.chain.from_iterable(itertools.repeat(batches))

        def learn(lr: float) -> Tensor:
            inputs, targets = next(endless)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            value = loss(logits_of(network(inputs)), targets)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return value

        return _sweep(learn, lowest, highest, num_steps, silent)


def lr_find(
    settings: TrainSettings,
    *,
    lowest: float = _LOWEST,
    highest: float = _HIGHEST,
    num_steps: int = _STEPS,
    allow_code: Collection[str] = (),
    track: Track = silent,
) -> LrCurve:
    """Looks for the learning rate of a training that has not begun: its own network, data, optimizer and loss.

    Args:
        settings: What would be trained. Its rate and schedule are not used, and no run is written.
        lowest: The first rate.
        highest: The last, unless the loss diverges before.
        num_steps: From the lowest to the highest.
        allow_code: As for `train`.
        track: Shows progress.

    Raises:
        CutawayError: Something about the settings is wrong, or the loss fell at no rate.
    """
    with rehearsal(settings, allow_code=allow_code, track=track) as (session, feed):
        endless = batches_without_end(session, feed)

        def learn(lr: float) -> Tensor:
            epoch, batch = next(endless)
            return epoch.learn(batch, lr=lr)[0]

        return _sweep(learn, lowest, highest, num_steps, track)


def _sweep(learn: Callable[[float], Tensor], lowest: float, highest: float, num_steps: int, track: Track) -> LrCurve:
    """Makes a step at each rate, until the loss diverges.

    Args:
        learn: Makes a step at a rate; returns the loss before it.
        lowest: See `find_lr`.
        highest: Likewise.
        num_steps: Likewise.
        track: Shows progress.
    """
    if not 0 < lowest < highest < math.inf:
        raise SettingsError(f"There are no learning rates from {lowest:g} to {highest:g}.")
    if num_steps < _FEWEST_STEPS:
        raise SettingsError(f"{num_steps} steps are too few to see a curve.", hint=f"Give {_FEWEST_STEPS} or more.")
    planned = [lowest * (highest / lowest) ** (at / (num_steps - 1)) for at in range(num_steps)]
    losses: list[float] = []
    running, best = 0.0, math.inf
    for lr in track(planned, "trying learning rates", num_steps):
        value = learn(lr).item()
        running = _SMOOTHING * running + (1 - _SMOOTHING) * value
        level = running / (1 - _SMOOTHING ** (len(losses) + 1))
        if not math.isfinite(value) or level > _DIVERGED * best:
            break
        losses.append(value)
        best = min(best, level)
    return _curve(planned[: len(losses)], losses, diverged=len(losses) < num_steps)


def _curve(rates: Sequence[float], losses: Sequence[float], *, diverged: bool) -> LrCurve:
    """Reads the two rates off the smoothed loss."""
    smoothed = _smooth(losses)
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    # Central differences; rates rise by a constant factor, so the index stands for their logarithm.
    slopes = {at: (smoothed[at + 1] - smoothed[at - 1]) / 2 for at in range(1, lowest)}
    steepest = min(slopes, key=slopes.__getitem__, default=0)
    if not slopes or slopes[steepest] >= 0:
        raise CutawayError(
            f"The loss fell at no learning rate of {len(losses)} that were tried.",
            hint="Try more --steps or a larger --batch-size; or look at labels and frozen layers.",
        )
    return LrCurve(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        steepest=rates[steepest],
        tenth=rates[lowest] / 10,
        diverged=diverged,
    )


def _smooth(losses: Sequence[float]) -> list[float]:
    """The mean of the exponential moving averages from both ends, which lags neither way."""
    ahead, back = _averages(losses), _averages(losses[::-1])[::-1]
    return [(first + second) / 2 for first, second in zip(ahead, back, strict=True)]


def _averages(values: Sequence[float]) -> list[float]:
    """Exponential moving averages, corrected for their beginning at 0."""
    running, found = 0.0, []
    for count, value in enumerate(values, start=1):
        running = _SMOOTHING * running + (1 - _SMOOTHING) * value
        found.append(running / (1 - _SMOOTHING**count))
    return found
