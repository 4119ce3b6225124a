"""Infidelity, and max-sensitivity by captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import seed_torch
from cutaway.inspect.attribution.gradients import picture_seed
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, prepared
from cutaway.inspect.faithfulness.ordering import fitted_maps

NOISY_COPIES, CHANGED_COPIES = 50, 5

Explain = Callable[[Tensor, Tensor], Tensor]
"""From pictures [N, C, H, W] and their classes int64 [N] to heat-maps [N, h, w]."""


def infidelity(
    network: nn.Module,
    inputs: Tensor,
    heatmaps: Tensor,
    class_index: ClassIndex = -1,
    *,
    noise: float = 0.1,
    samples: int = NOISY_COPIES,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> Tensor:
    """How badly a map foretells what noise does to the logit (Yeh et al., arXiv:1901.09392, equation 1).

    The expected square of the difference between what the map foretells and what happens, each map at its best scale
    and divided by the expected square of what happens: 0 where it foretells all, 1 where it is of no use. A scale is
    never negative, so a map that foretells the opposite is of none. A heat-map counts for all channels alike.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        heatmaps: float [N, h, w], higher where more speaks for the class.
        class_index: The class that they explain, one for all pictures or one for each; -1 is a picture's top class.
        noise: Standard deviation of the Gaussian, as a share of the picture's range.
        samples: Noisy copies of each picture.
        seed: Of the noise.
        at_a_time: The most pictures that go through the network together.

    Returns:
        float [N].

    Raises:
        InspectionError: The maps don't fit the pictures, or there is no such class.
    """
    if samples < 1 or not 0 < noise < float("inf"):
        raise InspectionError(f"Infidelity takes at least one sample and noise above 0, not {samples} and {noise}.")
    with prepared(network, inputs, class_index, purpose="Infidelity", gradients=False, at_a_time=at_a_time) as subject:
        maps = fitted_maps(heatmaps, subject.inputs)
        found = []
        for index, (picture, chosen) in enumerate(zip(subject.inputs, subject.classes, strict=True)):
            spread = noise * float(picture.max() - picture.min()) or noise
            generator = torch.Generator().manual_seed(picture_seed(seed, index))
            taken = torch.randn((samples, *picture.shape), generator=generator).to(picture) * spread
            here = subject.logits[index, chosen]
            # In float64 on the CPU, since not every device has it.
            happens = (here - subject.scores_in_parts(picture - taken, chosen.expand(samples))).cpu().double()
            foretold = torch.einsum("schw,hw->s", taken.to(maps), maps[index]).cpu().double()
            # At the scale that leaves the least of the square: 1 less the share that the map foretells.
            together = (foretold * happens).sum().clamp(min=0)
            sizes = foretold.square().sum() * happens.square().sum()
            found.append(1 - together.square() / sizes.clamp(min=1e-300))
        return torch.stack(found).clamp(0, 1).to(subject.inputs)


def max_sensitivity(
    network: nn.Module,
    inputs: Tensor,
    explain: Explain,
    class_index: ClassIndex = -1,
    *,
    radius: float = 0.02,
    samples: int = CHANGED_COPIES,
    seed: int = 0,
) -> Tensor:
    """How much a map changes at most when the picture changes a little (Yeh et al., arXiv:1901.09392, definition 3).

    Small for a map that can be relied on; a map that does not look at the network at all is the most stable.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        explain: Makes heat-maps of pictures for classes.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        radius: The most that a pixel changes, as a share of the picture's range.
        samples: Changed copies of each picture.
        seed: Of the changes.

    Returns:
        float [N], the largest change as a share of the map's own norm.

    Raises:
        InspectionError: There is no such class, or the explanation cannot be had.
    """
    if samples < 1 or not 0 < radius < float("inf"):
        raise InspectionError(
            f"Max-sensitivity takes at least one sample and a radius above 0, not {samples}, {radius}."
        )
    from captum.metrics import sensitivity_max

    with prepared(network, inputs, class_index, purpose="Max-sensitivity", gradients=False) as subject:

        def explained(given: Any, target: Tensor) -> tuple[Tensor, ...]:
            pictures = given[0] if isinstance(given, tuple) else given
            return (fitted_maps(explain(pictures, target.expand(len(pictures))), pictures),)

        found = []
        for index in range(len(subject.inputs)):
            one = slice(index, index + 1)
            picture = subject.inputs[one]
            reach = radius * float(picture.max() - picture.min()) or radius

            def moved(given: Any, radius: float = reach) -> tuple[Tensor, ...]:
                pictures = given[0] if isinstance(given, tuple) else given
                return (pictures + (2 * torch.rand(pictures.shape).to(pictures) - 1) * radius,)

            seed_torch(picture_seed(seed, index))
            found.append(
                sensitivity_max(
                    explained,
                    picture,
                    moved,
                    perturb_radius=reach,
                    n_perturb_samples=samples,
                    target=subject.classes[one],
                )
            )
        return torch.cat(found)
