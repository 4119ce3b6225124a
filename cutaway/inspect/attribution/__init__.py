"""Attribution: how much each pixel speaks for a class; every function takes any `nn.Module` and leaves no trace."""

from cutaway.inspect.attribution.baselines import Baseline, BaselineKind, blurred, make_baseline
from cutaway.inspect.attribution.gradients import input_x_gradient, saliency, smooth_grad
from cutaway.inspect.attribution.guided import guided_backprop, guided_grad_cam
from cutaway.inspect.attribution.methods import METHODS, attribute
from cutaway.inspect.attribution.occluding import feature_ablation, occlusion
from cutaway.inspect.attribution.paths import integrated_gradients
from cutaway.inspect.attribution.rescaling import deep_lift
from cutaway.inspect.attribution.result import Attribution, Reduction
from cutaway.inspect.attribution.segments import grid_segments, slic_segments

__all__ = [
    "METHODS",
    "Attribution",
    "Baseline",
    "BaselineKind",
    "Reduction",
    "attribute",
    "blurred",
    "deep_lift",
    "feature_ablation",
    "grid_segments",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "make_baseline",
    "occlusion",
    "saliency",
    "slic_segments",
    "smooth_grad",
]
