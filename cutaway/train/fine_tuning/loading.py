"""Weights into a network that was just built, which keeps a new head where the classes are others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.matching import Matching, describe, match, render
from cutaway.errors import BundleError
from cutaway.networks.heads import Parts
from cutaway.train.fine_tuning.starting import Start

_COUNT = ".num_batches_tracked"
_NAMED = 4


def load_start(network: nn.Module, parts: Parts, start: Start, classes: tuple[str, ...], name: str) -> str:
    """Puts weights into a network in place.

    All of the backbone must be found. The head is taken over where it is for the same classes (or, where the weights
    don't say for which, has their shape) and stays new otherwise. Auxiliary heads stay new where there are none.

    Args:
        network: On the CPU, at its initial weights.
        parts: Of the network.
        start: The weights.
        classes: Labels of the network's head.
        name: What the network is called in sentences.

    Returns:
        A sentence that says what was loaded and what is new.

    Raises:
        BundleError: The weights don't fit the backbone, told as a table; or some are NaN or infinite.
    """
    own = network.state_dict()
    expected = describe(own)
    matching = match(expected, start.shapes, convert=True)
    fault = _faults(matching, parts)
    if not fault.is_exact:
        raise BundleError(
            f"{_capital(start.source)} does not fit {name}:\n{render(fault)}",
            hint=_hint(fault),
        )
    takes_head = _takes_head(matching, parts, start, classes)
    loaded = [pair for pair in matching.loadable if takes_head or not _in_head(pair.name, parts)]
    tensors = start.read(pair.found_name for pair in loaded)
    check_finite(tensors, start.source)
    with torch.no_grad():
        for pair in loaded:
            own[pair.name].copy_(tensors[pair.found_name])
    taken = {pair.name for pair in loaded}
    new = [key for key in expected if key not in taken and not key.endswith(_COUNT)]
    left_out = [extra.name for extra in matching.unexpected]
    said = f"Begins with {start.source}: {len(loaded)} of {len(expected)} tensors."
    if new:
        said += f" New: {_listed(new)}."
    elif start.classes is None:
        said += f" Its head of {len(classes)} outputs too; are they for these classes, in this order?"
    return said + (f" Left out: {_listed(left_out)}." if left_out else "")


def _hint(fault: Matching) -> str:
    hint = "Only the head may differ. --network names the network that the weights are for."
    # The one tensor whose size the pictures decide: the first linear layer, or a transformer's positions.
    if len(fault.wrong_shape) == 1 and not fault.missing and not fault.unexpected:
        hint += " Or they are of pictures of another size, which --image-size gives."
    return hint


def _faults(matching: Matching, parts: Parts) -> Matching:
    """What does not fit and may not stay new."""
    tops = {module.partition(".")[0] for stage in parts.stages for module in stage}

    def is_free(name: str) -> bool:
        return _in_head(name, parts) or parts.is_auxiliary(name)

    return replace(
        matching,
        missing=tuple(gap for gap in matching.missing if not (is_free(gap.name) or gap.name.endswith(_COUNT))),
        # A whole part that the network has not is left out; a part of one that it has makes it another network's.
        unexpected=tuple(
            extra for extra in matching.unexpected if not is_free(extra.name) and extra.name.partition(".")[0] in tops
        ),
        wrong_shape=tuple(pair for pair in matching.wrong_shape if not is_free(pair.name)),
        wrong_type=tuple(pair for pair in matching.wrong_type if not is_free(pair.name)),
    )


def _takes_head(matching: Matching, parts: Parts, start: Start, classes: tuple[str, ...]) -> bool:
    wrong = matching.wrong_shape + matching.wrong_type
    fits = not any(_in_head(pair.name, parts) for pair in wrong)
    return fits and start.classes in (None, classes)


def _in_head(name: str, parts: Parts) -> bool:
    return parts.stage_of(name) is None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith(("the ", "torch")) else text
