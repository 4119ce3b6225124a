"""How a run's weights develop from bundle to bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from cutaway.checkpoints import Stored, read_tensors
from cutaway.errors import CutawayError, InspectionError
from cutaway.inspect.histograms import Histogram, tensor_histogram
from cutaway.inspect.updates import UpdateRatio, last_step_ratios, update_ratios
from cutaway.progress import Track, silent


@dataclass(frozen=True)
class Moment:
    """A run's parameters at one bundle.

    Attributes:
        bundle: Its directory.
        step: Of the optimizer.
        lr: The largest learning rate of that step; None where the bundle doesn't say.
        parameters: A histogram for each parameter.
        updates: Against the bundle before this one; empty for the first.
        last_step: The very last step, computed back from the optimizer's state; empty where that cannot be done.
        why_no_last_step: Then the reason.
    """

    bundle: Path
    step: int
    lr: float | None
    parameters: tuple[Histogram, ...]
    updates: tuple[UpdateRatio, ...]
    last_step: tuple[UpdateRatio, ...]
    why_no_last_step: str = ""


def run_history(
    bundles: Sequence[Stored], names: Sequence[str], *, bins: int = 48, track: Track = silent
) -> tuple[Moment, ...]:
    """Reads the parameters of a run's bundles, two bundles at a time in memory, every hash compared.

    These are the weights that training goes on with, also where a bundle holds averaged ones beside them.

    Args:
        bundles: The oldest first; of two with the same step the first is taken.
        names: Of the parameters, in the network's order; a bundle holds buffers beside them.
        bins: Of the histograms.
        track: Shows progress.

    Raises:
        BundleError: A bundle is damaged.
        InspectionError: There are no bundles.
    """
    if not bundles:
        raise InspectionError("There are no bundles to follow weights through.")
    moments: list[Moment] = []
    before: dict[str, Tensor] = {}
    for bundle in track(bundles, "reading bundles", len(bundles)):
        step = bundle.manifest.progress.step
        if moments and moments[-1].step == step:
            continue
        tensors = read_tensors(bundle.path, bundle.manifest, "model")
        weights = {name: tensors[name] for name in names if name in tensors}
        last, why = _last_step(bundle, weights)
        moments.append(
            Moment(
                bundle=bundle.path,
                step=step,
                lr=_largest_lr(bundle),
                parameters=tuple(tensor_histogram(name, tensor, bins=bins) for name, tensor in weights.items()),
                updates=update_ratios(before, weights, steps=step - moments[-1].step) if moments else (),
                last_step=last,
                why_no_last_step=why,
            )
        )
        before = weights
    return tuple(moments)


def _largest_lr(bundle: Stored) -> float | None:
    rates = [group.get("lr") for group in bundle.manifest.optimizer]
    return max((float(rate) for rate in rates if isinstance(rate, int | float)), default=None)


def _last_step(bundle: Stored, weights: dict[str, Tensor]) -> tuple[tuple[UpdateRatio, ...], str]:
    manifest = bundle.manifest
    if "optimizer.safetensors" not in manifest.files or manifest.progress.step == 0:
        return (), "The bundle holds no state of an optimizer."
    name = str(manifest.configuration.get("optimizer", ""))
    try:
        groups = cast("list[dict[str, Any]]", manifest.optimizer)
        state = read_tensors(bundle.path, manifest, "optimizer")
        return last_step_ratios(name, weights, state, groups), ""
    except InspectionError as error:
        return (), error.message
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, CutawayError):
            raise
        return (), f"The optimizer's state in {bundle.path} is not what {name} keeps."
