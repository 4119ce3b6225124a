"""Seeing inside a network: every function takes any `nn.Module` and leaves it as it was.

Figures and the report need matplotlib and jinja2 and are imported from their own modules.
"""

from cutaway.inspect.class_activation import ClassActivation, grad_cam
from cutaway.inspect.classwise import ClassScores, class_scores
from cutaway.inspect.features import FeatureMaps, Kernels, feature_maps, first_kernels
from cutaway.inspect.histograms import Histogram, gradient_histograms, weight_histograms
from cutaway.inspect.layers import LayerRow, LayerTable, LayerTotals, layer_table

__all__ = [
    "ClassActivation",
    "ClassScores",
    "FeatureMaps",
    "Histogram",
    "Kernels",
    "LayerRow",
    "LayerTable",
    "LayerTotals",
    "class_scores",
    "feature_maps",
    "first_kernels",
    "grad_cam",
    "gradient_histograms",
    "layer_table",
    "weight_histograms",
]
