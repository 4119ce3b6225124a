"""Seeing inside a network: every function takes any `nn.Module` and leaves it as it was.

Figures and the report need matplotlib and jinja2 and are imported from their own modules.
"""

from cutaway.hooks import capture
from cutaway.inspect.assessment import Assessment, assess
from cutaway.inspect.attribution import (
    Attribution,
    attribute,
    deep_lift,
    feature_ablation,
    guided_backprop,
    guided_grad_cam,
    input_x_gradient,
    integrated_gradients,
    occlusion,
    saliency,
    smooth_grad,
)
from cutaway.inspect.calibration import Calibration, measure_calibration
from cutaway.inspect.channels import ChannelActivity, channel_activity
from cutaway.inspect.class_activation import ClassActivation, Smoothing, class_activation_maps, grad_cam
from cutaway.inspect.classwise import ClassScores, class_scores
from cutaway.inspect.comparison import Comparison, compare_answers
from cutaway.inspect.embedding import Embedding, embed, penultimate_features
from cutaway.inspect.faithfulness import (
    MethodComparison,
    Randomisation,
    compare_methods,
    deletion,
    drop_and_increase,
    infidelity,
    insertion,
    max_sensitivity,
    randomisation_check,
    road,
    which_to_believe,
)
from cutaway.inspect.features import FeatureMaps, feature_maps
from cutaway.inspect.histograms import Histogram, bias_histograms, gradient_histograms, weight_histograms
from cutaway.inspect.kernels import Kernels, first_kernels, layer_kernels
from cutaway.inspect.layer_statistics import LayerStatistics, layer_statistics
from cutaway.inspect.layers import LayerRow, LayerTable, LayerTotals, TrainingMemory, layer_table, training_memory
from cutaway.inspect.mistakes import Mistake, confident_mistakes, confusion_examples
from cutaway.inspect.passes import activation_histograms, loss_gradient_histograms, loss_gradients
from cutaway.inspect.slices import Slice, Slices, slice_scores
from cutaway.inspect.updates import UpdateRatio, last_step_ratios, update_ratios

__all__ = [
    "Assessment",
    "Attribution",
    "Calibration",
    "ChannelActivity",
    "ClassActivation",
    "ClassScores",
    "Comparison",
    "Embedding",
    "FeatureMaps",
    "Histogram",
    "Kernels",
    "LayerRow",
    "LayerStatistics",
    "LayerTable",
    "LayerTotals",
    "MethodComparison",
    "Mistake",
    "Randomisation",
    "Slice",
    "Slices",
    "Smoothing",
    "TrainingMemory",
    "UpdateRatio",
    "activation_histograms",
    "assess",
    "attribute",
    "bias_histograms",
    "capture",
    "channel_activity",
    "class_activation_maps",
    "class_scores",
    "compare_answers",
    "compare_methods",
    "confident_mistakes",
    "confusion_examples",
    "deep_lift",
    "deletion",
    "drop_and_increase",
    "embed",
    "feature_ablation",
    "feature_maps",
    "first_kernels",
    "grad_cam",
    "gradient_histograms",
    "guided_backprop",
    "guided_grad_cam",
    "infidelity",
    "input_x_gradient",
    "insertion",
    "integrated_gradients",
    "last_step_ratios",
    "layer_kernels",
    "layer_statistics",
    "layer_table",
    "loss_gradient_histograms",
    "loss_gradients",
    "max_sensitivity",
    "measure_calibration",
    "occlusion",
    "penultimate_features",
    "randomisation_check",
    "road",
    "saliency",
    "slice_scores",
    "smooth_grad",
    "training_memory",
    "update_ratios",
    "weight_histograms",
    "which_to_believe",
]
