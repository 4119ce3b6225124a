"""The attribution methods by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.gradients import input_x_gradient, saliency, smooth_grad
from cutaway.inspect.attribution.guided import guided_backprop, guided_grad_cam
from cutaway.inspect.attribution.occluding import feature_ablation, occlusion
from cutaway.inspect.attribution.paths import integrated_gradients
from cutaway.inspect.attribution.rescaling import deep_lift
from cutaway.inspect.attribution.result import Attribution
from cutaway.inspect.attribution.subject import ClassIndex
from cutaway.settings.near_names import near_names


@dataclass(frozen=True)
class Method:
    """An attribution method.

    Attributes:
        function: Computes it.
        takes_baseline: Whether it compares with a picture of nothing.
        takes_seed: Whether it is random.
    """

    function: Callable[..., Attribution]
    takes_baseline: bool = False
    takes_seed: bool = False


METHODS: dict[str, Method] = {
    "saliency": Method(saliency),
    "input-x-gradient": Method(input_x_gradient),
    "smooth-grad": Method(smooth_grad, takes_seed=True),
    "integrated-gradients": Method(integrated_gradients, takes_baseline=True),
    "deep-lift": Method(deep_lift, takes_baseline=True),
    "guided-backprop": Method(guided_backprop),
    "guided-grad-cam": Method(guided_grad_cam),
    "occlusion": Method(occlusion, takes_baseline=True),
    "feature-ablation": Method(feature_ablation, takes_baseline=True),
}


def attribute(
    network: nn.Module, inputs: Tensor, method: str, class_index: ClassIndex = -1, **options: Any
) -> Attribution:
    """Computes a method by its name.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        method: One of `METHODS`.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        options: What the method's own function takes. `baseline`, `preprocessing` and `seed` may be given to all,
            and are kept from methods that have none.

    Raises:
        InspectionError: There is no such method, or it cannot be done here.

    Example:
        >>> found = attribute(network, images, "integrated-gradients", baseline="blur")
    """
    if method not in METHODS:
        raise InspectionError(f"There is no method '{method}' of attribution.", hint=_other_than(method))
    chosen = METHODS[method]
    unfit = {name for name in ("baseline", "preprocessing") if not chosen.takes_baseline}
    unfit |= set() if chosen.takes_seed else {"seed"}
    return chosen.function(
        network, inputs, class_index, **{name: value for name, value in options.items() if name not in unfit}
    )


def _other_than(method: str) -> str:
    from cutaway.inspect import class_activation

    if method in class_activation.METHODS:
        return "It makes class activation maps: `cutaway inspect cam`, in Python `class_activation_maps`."
    near = near_names(method, METHODS, 3)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(METHODS)}."
