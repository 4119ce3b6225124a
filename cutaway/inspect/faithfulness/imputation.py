"""ROAD: taking pixels away by filling in what their neighbours let expect, so that the gap itself tells nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.gradients import picture_seed
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, prepared
from cutaway.inspect.faithfulness.ordering import fitted_maps, pixel_ranks

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
NOISE = 0.01

_DIAGONAL = 1 / 12
_PRECISION = 1e-4
_STEPS_BETWEEN_LOOKS = 8
_MOST_IN_CACHE = 30_000


@dataclass(frozen=True)
class Road:
    """The probability of each picture's class once a share of its pixels was filled in.

    Attributes:
        shares: float [S], of the pixels that were taken away.
        strongest_first: float [N, S], where those were the strongest of the map.
        weakest_first: float [N, S], where those were the weakest.
    """

    shares: Tensor
    strongest_first: Tensor
    weakest_first: Tensor

    @property
    def score(self) -> Tensor:
        """How much more the strongest pixels matter than the weakest, the mean over the shares: float [N], -1 to 1."""
        return (self.weakest_first - self.strongest_first).mean(1)


def road(
    network: nn.Module,
    inputs: Tensor,
    heatmaps: Tensor,
    class_index: ClassIndex = -1,
    *,
    shares: tuple[float, ...] = SHARES,
    noise: float = NOISE,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> Road:
    """Remove and debias (ROAD; Rong et al., arXiv:2202.00449), with noisy linear imputation.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        heatmaps: float [N, h, w], higher where more speaks for the class.
        class_index: The class that they explain, one for all pictures or one for each; -1 is a picture's top class.
        shares: Of the pixels to take away, each above 0 and below 1.
        noise: Standard deviation of what is added to pixels that are filled in, in units of the normalised picture.
        seed: Of the noise, and of the order among pixels of the same strength.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: The maps don't fit the pictures, a share is out of range, or there is no such class.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise InspectionError(f"ROAD takes shares of pixels between 0 and 1, not {', '.join(map(str, shares))}.")
    with prepared(network, inputs, class_index, purpose="ROAD", gradients=False, at_a_time=at_a_time) as subject:
        ranks = pixel_ranks(fitted_maps(heatmaps, subject.inputs), seed)
        num_pixels = ranks.shape[1] * ranks.shape[2]
        counts = torch.tensor([round(share * num_pixels) for share in shares], device=ranks.device)
        counts = counts.clamp(1, num_pixels - 1)[:, None, None]
        found = []
        for index, (picture, places) in enumerate(zip(subject.inputs, ranks, strict=True)):
            removed = torch.cat([places < counts, places >= num_pixels - counts])
            filled = []
            for number, some in enumerate(torch.split(removed, subject.at_a_time)):
                own_seed = picture_seed(seed, index) + number
                filled.append(impute(picture.expand(len(some), *picture.shape), some, noise=noise, seed=own_seed))
            classes = subject.classes[index].expand(len(removed))
            logits = [subject.logits_at(some) for some in filled]
            found.append(torch.cat(logits).float().softmax(1).gather(1, classes[:, None])[:, 0])
        strongest, weakest = torch.stack(found).chunk(2, 1)
        return Road(torch.tensor(shares), strongest, weakest)


def impute(inputs: Tensor, removed: Tensor, *, noise: float = NOISE, seed: int = 0) -> Tensor:
    """Fills removed pixels in so that each is the weighted mean of its eight neighbours, and adds a little noise.

    Direct neighbours weigh twice as much as diagonal ones; at the border those that exist share the weight. The
    linear system is solved by conjugate gradients, for all channels at once, for several small pictures too, and on
    a GPU for all.

    Args:
        inputs: float [N, C, H, W].
        removed: bool [N, H, W]; at least one pixel of each picture stays.
        noise: Standard deviation of the noise.
        seed: Of the noise.

    Returns:
        float [N, C, H, W], with the pixels that stay as they were.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise InspectionError("A picture of which every pixel is removed cannot be filled in.")
    # A CPU's cache holds so much with all that its solution takes; more together take several times as long.
    fits = _MOST_IN_CACHE // inputs.shape[1:].numel() if inputs.device.type == "cpu" else len(inputs)
    together = max(1, fits)
    pairs = zip(torch.split(inputs, together), torch.split(removed[:, None], together), strict=True)
    solution = torch.cat([_solved(some, gone.to(some)) for some, gone in pairs])
    generator = torch.Generator().manual_seed(seed)
    grain = torch.randn(inputs.shape, generator=generator).to(inputs) * noise
    return torch.where(removed[:, None], solution + grain, inputs)


def _solved(inputs: Tensor, gone: Tensor) -> Tensor:
    """Solves A x = b over the removed pixels: A is symmetric and positive definite as long as a pixel stays.

    Args:
        inputs: float [N, C, H, W].
        gone: float [N, 1, H, W], 1 where a pixel is removed and 0 elsewhere.

    Returns:
        float [N, C, H, W], 0 where nothing is removed.
    """
    weight = _neighbours(torch.ones_like(gone[:1]))
    inverse = gone / weight

    def unfilled(values: Tensor) -> Tensor:
        return (weight * values).sub_(_neighbours(values)).mul_(gone)

    known = inputs * (1 - gone)
    target = gone * _neighbours(known)
    mean = known.sum((2, 3), keepdim=True) / (1 - gone).sum((2, 3), keepdim=True)
    solution = gone * mean
    rest = target - unfilled(solution)
    scaled = rest * inverse
    direction, product = scaled.clone(), _dot(rest, scaled)
    enough = _PRECISION**2 * _dot(target, target * inverse)
    # In exact arithmetic it ends after as many steps as there are pixels, in practice long before.
    for step in range(gone[0].numel()):
        open_still = product > enough
        # Not at every step, since a GPU waits for the answer.
        if step % _STEPS_BETWEEN_LOOKS == 0 and not bool(open_still.any()):
            break
        through = unfilled(direction)
        length = torch.where(open_still, product / _dot(direction, through).clamp(min=1e-30), 0)
        solution.addcmul_(length, direction)
        rest.addcmul_(length, through, value=-1)
        torch.mul(rest, inverse, out=scaled)
        following = _dot(rest, scaled)
        direction.mul_(following / product.clamp(min=1e-30)).add_(scaled)
        product = following
    return solution


def _neighbours(values: Tensor) -> Tensor:
    """The weighted sum over the eight neighbours that exist: [N, C, H, W] of both.

    The weights are those of a [1, 2, 1] filter along both axes, but for the pixel itself.
    """
    padded = F.pad(values, (1, 1, 1, 1))
    rows = torch.add(padded[..., :-2], padded[..., 2:]).add_(padded[..., 1:-1], alpha=2)
    both = torch.add(rows[..., :-2, :], rows[..., 2:, :]).add_(rows[..., 1:-1, :], alpha=2)
    return both.sub_(values, alpha=4).mul_(_DIAGONAL)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.einsum("nchw,nchw->nc", one, other)[..., None, None]
