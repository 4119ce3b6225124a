"""Which map to believe: several methods, measured on the same pictures beside maps that know nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.baselines import BaselineKind
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, prepared
from cutaway.inspect.faithfulness.curves import Curve, deletion, insertion
from cutaway.inspect.faithfulness.imputation import road
from cutaway.inspect.faithfulness.masking import drop_and_increase
from cutaway.inspect.faithfulness.ordering import fitted_maps
from cutaway.inspect.faithfulness.reference_maps import RANDOM, REFERENCE_MAPS
from cutaway.inspect.faithfulness.stability import Explain, infidelity, max_sensitivity
from cutaway.preprocessing import Preprocessing
from cutaway.progress import Track, silent

FEWEST_PICTURES = 5
"""Of fewer, whether a method beats chance stays open: the spread of so few differences is hardly known."""
_STANDARD_ERRORS = 2


@dataclass(frozen=True)
class Metric:
    """A measure of faithfulness.

    Attributes:
        title: At the head of its column.
        higher_is_better: Which way is better.
    """

    title: str
    higher_is_better: bool


METRICS: dict[str, Metric] = {
    "deletion": Metric("deletion AUC", False),
    "insertion": Metric("insertion AUC", True),
    "road": Metric("ROAD", True),
    "drop": Metric("average drop", False),
    "increase": Metric("increase", True),
    "infidelity": Metric("infidelity", False),
    "max-sensitivity": Metric("max-sensitivity", False),
}


@dataclass(frozen=True)
class Lead:
    """How far one method is ahead of another by a metric: the mean of the differences, each of one picture.

    Attributes:
        over: The other method.
        mean: Above 0 where the method is the better one, whichever way the metric points.
        low: Where an interval of 95 % for it begins.
        high: Where it ends.
    """

    over: str
    mean: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether it is more than chance."""
        return self.low > 0


@dataclass(frozen=True)
class MethodComparison:
    """Methods, metrics, and what each gave on each picture.

    Attributes:
        methods: The rows, with the reference maps last.
        metrics: The columns, names in `METRICS`.
        values: float64 [M, K, N]; NaN where a metric says nothing of a method.
        references: The rows among them that know nothing of the network.
        curves: Deletion and insertion curves by method, where they were measured.
        class_index: int64 [N], the classes that were explained.
        alone: Why each picture went through the network by itself, in words that follow upon "since"; None where
            pictures don't mix, as usual.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Tensor
    references: tuple[str, ...]
    curves: Mapping[str, tuple[Curve, ...]]
    class_index: Tensor
    alone: str | None = None

    @property
    def num_pictures(self) -> int:
        """How many pictures they were measured on."""
        return self.values.shape[2]

    @cached_property
    def mean(self) -> Tensor:
        """float64 [M, K]."""
        return self.values.mean(2)

    @cached_property
    def standard_error(self) -> Tensor:
        """Of the mean over pictures, float64 [M, K]; NaN of a single picture."""
        return _standard_error(self.values)

    def best(self, metric: str) -> str | None:
        """The method with the best mean, the reference maps left aside; None where there is none, or more than one."""
        own = [method for method in self.methods if method not in self.references]
        means = {method: self._directed(method, metric).mean().item() for method in own}
        known = {method: value for method, value in means.items() if value == value}
        best = [method for method, value in known.items() if value == max(known.values())]
        return best[0] if len(best) == 1 else None

    @property
    def cut_off(self) -> float:
        """How many standard errors a mean difference has to be above 0, to be told from chance.

        Two of many pictures. Of few, as many as Student's t needs to be as sure of it; NaN of a single one.
        """
        from scipy.stats import norm, t

        return float(t.ppf(norm.cdf(_STANDARD_ERRORS), self.num_pictures - 1))

    def lead(self, method: str, over: str, metric: str) -> Lead | None:
        """How far a method is ahead of another, picture by picture.

        None where there is no telling: of fewer than five pictures, or where the metric says nothing of either.
        """
        difference = self._directed(method, metric) - self._directed(over, metric)
        if not difference.isfinite().all() or len(difference) < FEWEST_PICTURES:
            return None
        mean, reach = float(difference.mean()), self.cut_off * float(_standard_error(difference))
        return Lead(over, mean, mean - reach, mean + reach)

    def lead_over_random(self, method: str, metric: str) -> Lead | None:
        """The lead over the random map that it is least surely ahead of.

        None for a reference, and as for `lead`.
        """
        opponents = [name for name in RANDOM if name in self.methods]
        if method in self.references or not opponents:
            return None
        leads = [self.lead(method, opponent, metric) for opponent in opponents]
        known = [lead for lead in leads if lead is not None]
        return min(known, key=lambda lead: lead.low) if len(known) == len(leads) else None

    def beats_random(self, method: str, metric: str) -> bool | None:
        """Whether a method is better than each random map by more than `cut_off` standard errors of the difference.

        None where there is no telling: of fewer than five pictures, of a reference, or where the metric says nothing
        of it.
        """
        lead = self.lead_over_random(method, metric)
        return None if lead is None else lead.is_told

    def _directed(self, method: str, metric: str) -> Tensor:
        """Each picture's value, signed so that higher is better: float64 [N]."""
        values = self.values[self.methods.index(method), self.metrics.index(metric)]
        return values if METRICS[metric].higher_is_better else -values


def compare_methods(
    network: nn.Module,
    inputs: Tensor,
    explainers: Mapping[str, Explain],
    class_index: ClassIndex = -1,
    *,
    metrics: Sequence[str] = tuple(METRICS),
    baseline: BaselineKind = "mean",
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
    track: Track = silent,
) -> MethodComparison:
    """Measures how faithful heat-maps are to the network, beside maps that know nothing of it.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        explainers: By name, what makes heat-maps [N, h, w] of pictures and their classes int64 [N].
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        metrics: Names in `METRICS`.
        baseline: What stands for nothing, but for insertion, which starts from the picture blurred.
        preprocessing: Of the pictures, for a black or white baseline.
        seed: Of whatever is random.
        at_a_time: The most pictures that go through the network together.
        track: Told of each method.

    Raises:
        InspectionError: A metric is unknown, a map doesn't fit, or there is no such class.

    Example:
        >>> found = compare_methods(network, images, {
        ...     "grad-cam": lambda x, classes: grad_cam(network, x, class_index=classes).maps,
        ...     "saliency": lambda x, classes: saliency(network, x, classes).heatmap,
        ... })
        >>> found.best("deletion"), found.beats_random("saliency", "deletion")
    """
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics:
        raise InspectionError(
            f"There is no metric '{unknown[0]}'." if unknown else "There is no metric to measure by.",
            hint=f"Known are {', '.join(METRICS)}.",
        )
    taken = [name for name in explainers if name in REFERENCE_MAPS]
    if taken:
        raise InspectionError(f"'{taken[0]}' is the name of a reference map.", hint="Name the method otherwise.")
    with prepared(
        network, inputs, class_index, purpose="Faithfulness", gradients=False, at_a_time=at_a_time
    ) as subject:
        pictures, classes, alone = subject.inputs, subject.classes, subject.alone
    drawn: dict[str, Explain] = {name: _drawing(draw, seed) for name, draw in REFERENCE_MAPS.items()}
    rows: list[Tensor] = []
    curves: dict[str, tuple[Curve, ...]] = {}
    for method, explain in track((dict(explainers) | drawn).items(), "measuring", len(explainers) + len(drawn)):
        maps = fitted_maps(explain(pictures, classes), pictures)
        found: dict[str, Tensor] = {}
        if "deletion" in metrics:
            gone = deletion(
                network,
                pictures,
                maps,
                classes,
                baseline=baseline,
                preprocessing=preprocessing,
                seed=seed,
                at_a_time=at_a_time,
            )
            found["deletion"], curves[method] = gone.area, (gone,)
        if "insertion" in metrics:
            come = insertion(network, pictures, maps, classes, seed=seed, at_a_time=at_a_time)
            found["insertion"], curves[method] = come.area, (*curves.get(method, ()), come)
        if "road" in metrics:
            found["road"] = road(network, pictures, maps, classes, seed=seed, at_a_time=at_a_time).score
        if "drop" in metrics or "increase" in metrics:
            shown = drop_and_increase(
                network,
                pictures,
                maps,
                classes,
                baseline=baseline,
                preprocessing=preprocessing,
                at_a_time=at_a_time,
            )
            found["drop"], found["increase"] = shown.drop, shown.increased
        if "infidelity" in metrics:
            found["infidelity"] = infidelity(network, pictures, maps, classes, seed=seed, at_a_time=at_a_time)
        if "max-sensitivity" in metrics:
            # Of maps that don't look at the network it says nothing.
            found["max-sensitivity"] = (
                torch.full((len(pictures),), float("nan"))
                if method in drawn
                else max_sensitivity(network, pictures, explain, classes, seed=seed)
            )
        rows.append(torch.stack([found[metric].detach().cpu().double() for metric in metrics]))
    return MethodComparison(
        (*explainers, *drawn), tuple(metrics), torch.stack(rows), tuple(drawn), curves, classes.cpu(), alone
    )


def _drawing(draw: Callable[[Tensor, int], Tensor], seed: int) -> Explain:
    return lambda pictures, classes: draw(pictures, seed)


def _standard_error(values: Tensor) -> Tensor:
    count = values.shape[-1]
    return values.std(-1) / count**0.5 if count > 1 else torch.full(values.shape[:-1], float("nan"))
