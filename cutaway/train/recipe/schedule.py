"""The learning rate: a function of the step, so that it needs no state. Only a plateau's has some (`plateau`)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

from cutaway.settings import TrainSettings
from cutaway.settings.schedule import ENDS_WITH_THE_RUN

_BY_EPOCH = frozenset({"step", "multi-step", "exponential", "cosine-restarts"})
# torch's and fastai's: a one-cycle rate begins at this share of its peak, and ends at this share of where it began.
_CYCLE_BEGIN = 1 / 25
_CYCLE_END = 1e-4
_TRAPEZOID_FALL = 0.2


def learning_rate(settings: TrainSettings, step: int, steps_per_epoch: int, scale: float = 1.0) -> float:
    """The rate of the step after `step` whole ones.

    The warm-up rises linearly to what the schedule gives by itself. Schedules that end with the run begin when the
    warm-up ends; all others, and every schedule that counts epochs, count from the run's beginning.

    Args:
        settings: The schedule.
        step: Whole steps since the run began.
        steps_per_epoch: Steps of each epoch.
        scale: What a plateau has made of the rate so far.
    """
    warmup = _warmup(settings, settings.epochs * steps_per_epoch)
    rate = _SCHEDULES[settings.schedule](settings, *_clock(settings, step, steps_per_epoch, warmup))
    if settings.schedule == "plateau":
        rate = max(rate * scale, settings.lr_min)
    return rate * (step + 1) / (warmup + 1) if step < warmup else rate


def cycled_momentum(settings: TrainSettings, step: int, steps_per_epoch: int) -> float | None:
    """The momentum, or first beta, of the step after `step` whole ones; None where no schedule changes it."""
    if settings.schedule != "one-cycle" or settings.cycle_momentum is None:
        return None
    lowest, highest = settings.cycle_momentum
    now, total = _clock(settings, step, steps_per_epoch, 0)
    return _two_slopes(settings, now, total, highest, lowest, highest)


def _warmup(settings: TrainSettings, total_steps: int) -> int:
    if settings.schedule == "one-cycle":
        return 0
    if settings.schedule in ENDS_WITH_THE_RUN:
        return min(settings.warmup_steps, total_steps // 10)
    return settings.warmup_steps


def _clock(settings: TrainSettings, step: int, steps_per_epoch: int, warmup: int) -> tuple[int, int]:
    """How far the schedule has come and how far it goes, in its own unit."""
    by_epoch = settings.schedule in _BY_EPOCH if settings.schedule_per == "auto" else settings.schedule_per == "epoch"
    if by_epoch:
        return step // steps_per_epoch, settings.epochs
    if settings.schedule in ENDS_WITH_THE_RUN:
        return max(0, step - warmup), max(1, settings.epochs * steps_per_epoch - warmup)
    return step, settings.epochs * steps_per_epoch


def _constant(settings: TrainSettings, now: int, total: int) -> float:
    return settings.lr


def _cosine(settings: TrainSettings, now: int, total: int) -> float:
    """Loshchilov & Hutter, arXiv:1608.03983, equation 5, without restarts."""
    return settings.lr_min + (settings.lr - settings.lr_min) * 0.5 * (1 + math.cos(math.pi * (now / total)))


def _cosine_restarts(settings: TrainSettings, now: int, total: int) -> float:
    """Loshchilov & Hutter, equation 5."""
    period = settings.schedule_every
    if settings.schedule_growth == 1:
        now %= period
    while now >= period:
        now -= period
        period *= settings.schedule_growth
    return _cosine(settings, now, period)


def _linear(settings: TrainSettings, now: int, total: int) -> float:
    return settings.lr_min + (settings.lr - settings.lr_min) * (1 - now / total)


def _polynomial(settings: TrainSettings, now: int, total: int) -> float:
    return settings.lr_min + (settings.lr - settings.lr_min) * math.pow(1 - now / total, settings.schedule_power)


def _trapezoid(settings: TrainSettings, now: int, total: int) -> float:
    left = min(1.0, (1 - now / total) / _TRAPEZOID_FALL)
    return settings.lr_min + (settings.lr - settings.lr_min) * left


def _step(settings: TrainSettings, now: int, total: int) -> float:
    return settings.lr * _factor(settings) ** (now // settings.schedule_every)


def _multi_step(settings: TrainSettings, now: int, total: int) -> float:
    return settings.lr * _factor(settings) ** bisect_right(settings.schedule_milestones, now)


def _exponential(settings: TrainSettings, now: int, total: int) -> float:
    return settings.lr * _factor(settings, 0.95) ** now


def _inverse_sqrt(settings: TrainSettings, now: int, total: int) -> float:
    """From the end of the warm-up, so that rate and warm-up meet (Vaswani et al., arXiv:1706.03762, equation 3)."""
    if settings.schedule_per == "epoch":
        return settings.lr / math.sqrt(1 + now)
    first = max(1, settings.warmup_steps)
    return settings.lr * math.sqrt(first / (max(0, now - settings.warmup_steps) + first))


def _one_cycle(settings: TrainSettings, now: int, total: int) -> float:
    """Smith & Topin, arXiv:1708.07120, with cosines in place of its lines."""
    begin = settings.lr * _CYCLE_BEGIN
    return _two_slopes(settings, now, total, begin, settings.lr, begin * _CYCLE_END)


def _two_slopes(settings: TrainSettings, now: int, total: int, begin: float, peak: float, end: float) -> float:
    top, last = max(0.0, settings.cycle_rise * total - 1), max(1, total - 1)
    if now < top:
        begin, end, done = begin, peak, now / top
    else:
        begin, done = peak, (now - top) / max(1e-9, last - top)
    return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _factor(settings: TrainSettings, default: float = 0.1) -> float:
    return default if settings.schedule_factor is None else settings.schedule_factor


# From the settings, how far the schedule has come, and how far it goes, to a rate without warm-up.
_SCHEDULES: dict[str, Callable[[TrainSettings, int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "cosine-restarts": _cosine_restarts,
    "exponential": _exponential,
    "inverse-sqrt": _inverse_sqrt,
    "linear": _linear,
    "multi-step": _multi_step,
    "one-cycle": _one_cycle,
    "plateau": _constant,
    "polynomial": _polynomial,
    "step": _step,
    "trapezoid": _trapezoid,
}
