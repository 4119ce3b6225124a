"""What measurements of heat-maps come to in words: which may be believed, or that there is no telling."""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.inspect.faithfulness.comparison import FEWEST_PICTURES, METRICS, MethodComparison
from cutaway.inspect.faithfulness.randomisation import Randomisation

JUDGES = ("deletion", "insertion", "road")
"""The metrics that a verdict rests on: no map does well by them that is merely strong everywhere, or smooth."""


@dataclass(frozen=True)
class Verdict:
    """Which heat-maps to believe.

    Attributes:
        believed: The methods that by each of the judges are told from random maps, and on average are better than what
            knows nothing of the network; in the order of the comparison.
        first: The one among several that is told ahead of all others by each of the judges, if there is one.
        judges: The metrics that it rests on.
        sentence: That in words, or why there is no telling.
    """

    believed: tuple[str, ...]
    first: str | None
    judges: tuple[str, ...]
    sentence: str


def which_to_believe(found: MethodComparison) -> Verdict:
    """Says which of the compared methods to believe on this network and these pictures."""
    judges = tuple(name for name in JUDGES if name in found.metrics)
    own = [name for name in found.methods if name not in found.references]
    if not judges:
        titles = _listed([METRICS[name].title for name in JUDGES], "or")
        return Verdict((), None, judges, f"Cannot tell which to believe: neither {titles} was measured.")
    by = f"by {_listed([METRICS[name].title for name in judges], 'and')}"
    if found.num_pictures < FEWEST_PICTURES:
        reason = f"of {found.num_pictures} {'picture' if found.num_pictures == 1 else 'pictures'} chance decides"
        sentence = f"Cannot tell which to believe: {reason}. Measure {FEWEST_PICTURES} at least, better 50."
        return Verdict((), None, judges, sentence)
    believed = tuple(name for name in own if all(_holds(found, name, judge) for judge in judges))
    if not believed:
        sentence = f"Cannot tell which to believe: {by}, no method is better than the maps that know nothing"
        partly = [name for name in own if any(_holds(found, name, judge) for judge in judges)]
        sentence += f" ({_listed(partly, 'and')} by some, not by all)." if partly else "."
        return Verdict((), None, judges, sentence)
    first = next((name for name in believed if len(believed) > 1 and _leads(found, name, believed, judges)), None)
    sentence = (
        f"Believe {_listed(believed, 'or')}: {by}, better than random maps beyond chance on these "
        f"{found.num_pictures} pictures, and better on average than the other maps that know nothing."
    )
    if first is not None:
        sentence += f" {first} is ahead of the others."
    elif len(believed) > 1:
        sentence += " Which of these is the best cannot be told."
    return Verdict(believed, first, judges, sentence)


def shows_the_picture(found: Randomisation) -> bool:
    """Whether a method's maps stay much the same until the lowest layer of a network is random, or even then."""
    is_last = found.changes_at == found.layers[-1] and len(found.layers) > 1
    return found.depends_on_weights is not None and (found.changes_at is None or is_last)


def what_it_shows(name: str, found: Randomisation) -> str:
    """Says of a method whether its maps depend on what the network learned."""
    if found.depends_on_weights is None:
        return f"{name} is the same everywhere: there is nothing to compare."
    if found.changes_at is None:
        return f"{name} stays much the same when all that was learned is gone: it shows the picture, not the network."
    if found.changes_at == found.layers[-1] and len(found.layers) > 1:
        return f"{name} stays much the same until the lowest layer is random: it does not go by what the classes are."
    return f"{name} is another map once {found.changes_at} and all above it are random."


def _holds(found: MethodComparison, method: str, metric: str) -> bool:
    sign = 1 if METRICS[metric].higher_is_better else -1
    means = sign * found.mean[:, found.metrics.index(metric)]
    references = [found.methods.index(name) for name in found.references]
    return bool(found.beats_random(method, metric)) and bool(
        (means[found.methods.index(method)] > means[references]).all()
    )


def _leads(found: MethodComparison, method: str, among: tuple[str, ...], judges: tuple[str, ...]) -> bool:
    leads = [found.lead(method, other, judge) for other in among if other != method for judge in judges]
    return all(lead is not None and lead.is_told for lead in leads)


def _listed(names: list[str] | tuple[str, ...], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
