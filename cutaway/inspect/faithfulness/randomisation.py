"""The sanity check of Adebayo et al.: does a map change when the network forgets what it learned?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import seed_torch, untouched
from cutaway.inspect.attribution.subject import ClassIndex, prepared
from cutaway.inspect.faithfulness.ordering import fitted_maps
from cutaway.progress import Track, silent

ExplainNetwork = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, pictures [N, C, H, W] and their classes int64 [N] to heat-maps [N, h, w]."""

STEPS = 12
_ALIKE = 0.5
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Randomisation:
    """How alike the maps stay while a copy of the network is randomised from its top down.

    Attributes:
        layers: The lowest layer that is random at each step, from the top down.
        rank_correlation: float64 [L, N], Spearman's between the magnitudes of the maps, 0 where one is constant.
        similarity: float64 [L, N], structural similarity (SSIM) of the maps scaled to 0..1; NaN of pictures of fewer
            than 6 pixels a side.
        is_constant: bool [L, N], where one of the maps is the same everywhere, so that there is nothing to compare;
            None for nowhere.
    """

    layers: tuple[str, ...]
    rank_correlation: Tensor
    similarity: Tensor
    is_constant: Tensor | None = None

    @property
    def depends_on_weights(self) -> bool | None:
        """Whether the maps of the wholly random network are others: a mean rank correlation below a half.

        The mean is over the pictures of which both maps vary; None where there is no such picture.
        """
        mean = self._mean_of_varying[-1]
        return None if mean.isnan() else bool(mean < _ALIKE)

    @property
    def changes_at(self) -> str | None:
        """The step at which the mean rank correlation first falls below a half; None where it never does.

        The mean is over the pictures of which both maps vary; a step without such a picture changes nothing.

        A map that changes only at the lowest layers, as that of guided backpropagation, does not depend on what the
        higher ones learned, the classes among it.
        """
        below = (self._mean_of_varying < _ALIKE).nonzero().flatten().tolist()
        return self.layers[below[0]] if below else None

    @property
    def _mean_of_varying(self) -> Tensor:
        """float64 [L], NaN of a step at which no pair of maps varies."""
        if self.is_constant is None:
            return self.rank_correlation.mean(1)
        return self.rank_correlation.masked_fill(self.is_constant, float("nan")).nanmean(1)


def randomisation_check(
    network: nn.Module,
    inputs: Tensor,
    explain: ExplainNetwork,
    class_index: ClassIndex = -1,
    *,
    steps: int = STEPS,
    seed: int = 0,
    track: Track = silent,
) -> Randomisation:
    """Cascading randomisation (Adebayo et al., arXiv:1810.03292, section 4.1), on a copy of the network.

    Layer by layer from the logits down, the weights are drawn anew as the layers draw them when they are built; after
    each step the maps of the same classes are compared with the first ones. A map that stays as it was shows the
    picture rather than the network.

    Args:
        network: Any classifier that returns logits [N, K]; it is never written to.
        inputs: float [N, C, H, W], preprocessed.
        explain: Makes heat-maps of a network's pictures for classes.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        steps: The most steps; deeper networks take several layers a step.
        seed: Of the new weights.
        track: Told of each step.

    Raises:
        InspectionError: No layer has weights, or there is no such class.
    """
    with prepared(network, inputs, class_index, purpose="The randomisation check", gradients=False) as subject:
        pictures, classes = subject.inputs, subject.classes
        with untouched(network):
            forgetting = copy.deepcopy(network).eval()
        layers = _from_the_top(forgetting, pictures[:1])
        if not layers:
            raise InspectionError("The network has no weights that could be randomised.")
    first = _magnitudes(explain(network, pictures, classes), pictures)
    groups = np.array_split(np.arange(len(layers)), min(steps, len(layers)))
    names, correlations, similarities = [], [], []
    with untouched(network):
        for number, group in enumerate(track(groups, "randomising", len(groups))):
            seed_torch(seed + number)
            for index in group.tolist():
                _forget(layers[index][1])
            now = _magnitudes(explain(forgetting, pictures, classes), pictures)
            names.append(layers[int(group[-1])][0])
            correlations.append(rank_correlation(first, now))
            similarities.append(_similarity(first, now))
    ranks = torch.stack(correlations)
    return Randomisation(tuple(names), ranks.nan_to_num(nan=0.0), torch.stack(similarities), ranks.isnan())


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation of each pair of maps, equal values at their mean rank: [N, H, W] twice -> float64 [N].

    NaN where either map is constant, and so has no order to compare.
    """
    from scipy.stats import rankdata

    values = [maps.flatten(1).cpu().double().numpy() for maps in (one, other)]
    first, second = (ranks - ranks.mean(1, keepdims=True) for ranks in (rankdata(maps, axis=1) for maps in values))
    # Enlarging a constant map leaves differences of rounding.
    varies = np.all([np.ptp(maps, axis=1) > _ROUNDING * np.abs(maps).max(1) for maps in values], axis=0)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return torch.from_numpy(np.where(varies, (first * second).sum(1) / np.where(varies, scale, 1), np.nan))


def _similarity(one: Tensor, other: Tensor) -> Tensor:
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(one.shape[1:]) < 6:
        return torch.full((len(one),), float("nan"), dtype=torch.float64)
    scaled = [
        maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-30) for maps in (one.cpu().double(), other.cpu().double())
    ]
    found = structural_similarity_index_measure(
        scaled[0][:, None], scaled[1][:, None], data_range=1.0, reduction="none"
    )
    assert isinstance(found, Tensor)
    return found.reshape(-1)


def _magnitudes(heatmaps: Tensor, pictures: Tensor) -> Tensor:
    return fitted_maps(heatmaps, pictures).abs()


def _from_the_top(network: nn.Module, picture: Tensor) -> list[tuple[str, nn.Module]]:
    """The layers with weights of their own, the last to begin first."""
    started: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args: started.update({name: len(started)})

    handles = [module.register_forward_pre_hook(note(name)) for name, module in network.named_modules()]
    try:
        network(picture.clone())
    finally:
        for handle in handles:
            handle.remove()

    def begins(name: str) -> int:
        # Attention uses the weights of its last projection without calling it.
        while name and name not in started:
            name = name.rpartition(".")[0]
        return started.get(name, 0)

    own = [(name, module) for name, module in network.named_modules() if any(True for _ in module.parameters(False))]
    own.sort(key=lambda found: begins(found[0]), reverse=True)
    return [(name or type(network).__name__, module) for name, module in own]


def _forget(module: nn.Module) -> None:
    """Draws every weight of a layer's own anew."""
    before = {name: (own, own._version, own.detach().clone()) for name, own in module.named_parameters(recurse=False)}
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
    for name, parameter in module.named_parameters(recurse=False):
        known, version, values = before.get(name, (None, 0, parameter))
        # The version tells a weight that was set to what it had been from one that was passed over.
        written = parameter is not known or parameter._version != version or not torch.equal(parameter, values)
        if written or not parameter.numel() or not (parameter.is_floating_point() or parameter.is_complex()):
            continue
        # Weight norm, spectral norm and pruning compute the weight that a layer resets from others, which stay.
        spread = float(parameter.detach().float().std(correction=0)) or 0.02
        with torch.no_grad():
            parameter.normal_(0, spread)
        assert not torch.equal(parameter, values), f"{type(module).__name__}.{name} is as it was"
