"""Faithfulness: whether a heat-map shows what the network goes by, measured beside maps that know nothing of it."""

from cutaway.inspect.faithfulness.comparison import METRICS, Lead, MethodComparison, compare_methods
from cutaway.inspect.faithfulness.curves import Curve, deletion, insertion
from cutaway.inspect.faithfulness.explainers import HEATMAP_METHODS, explainer
from cutaway.inspect.faithfulness.imputation import Road, impute, road
from cutaway.inspect.faithfulness.masking import Shown, drop_and_increase
from cutaway.inspect.faithfulness.randomisation import Randomisation, randomisation_check, rank_correlation
from cutaway.inspect.faithfulness.reference_maps import REFERENCE_MAPS
from cutaway.inspect.faithfulness.stability import infidelity, max_sensitivity
from cutaway.inspect.faithfulness.verdicts import Verdict, shows_the_picture, what_it_shows, which_to_believe

__all__ = [
    "HEATMAP_METHODS",
    "METRICS",
    "REFERENCE_MAPS",
    "Curve",
    "Lead",
    "MethodComparison",
    "Randomisation",
    "Road",
    "Shown",
    "Verdict",
    "compare_methods",
    "deletion",
    "drop_and_increase",
    "explainer",
    "impute",
    "infidelity",
    "insertion",
    "max_sensitivity",
    "randomisation_check",
    "rank_correlation",
    "road",
    "shows_the_picture",
    "what_it_shows",
    "which_to_believe",
]
