"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cutaway.errors import InspectionError
from cutaway.inspect.class_activation import gradient_formulas as formulas
from cutaway.inspect.class_activation.ablation import ablation_cam
from cutaway.inspect.class_activation.eigen import eigen_cam
from cutaway.inspect.class_activation.gradient_formulas import Formula
from cutaway.inspect.class_activation.gradient_methods import by_gradient
from cutaway.inspect.class_activation.linear_head import cam
from cutaway.inspect.class_activation.rollout import attention_rollout
from cutaway.inspect.class_activation.score import score_cam
from cutaway.inspect.class_activation.targets import Targets
from cutaway.settings.near_names import near_names

Run = Callable[..., tuple[list[Tensor], Tensor, Targets]]
"""(network, inputs, layers, question) -> each layer's map before the last ReLU [N, T, h, w], logits, targets.

Where the method runs the network on altered copies of a picture, also by name: `at_a_time`, and `track`.
"""


@dataclass(frozen=True)
class Method:
    """A way to compute class activation maps.

    Attributes:
        name: As a person writes it.
        title: As figures show it.
        run: Computes the maps of a network in evaluation mode, under `no_grad`.
        needs_gradients: Impossible under `inference_mode`.
        is_class_blind: The same map for every class.
        reads_one_layer: Goes through the network as a whole, so that layers can neither be chosen nor fused.
        formula: From a layer's maps and the gradient there to the map, for methods that need nothing else.
        alters_copies: Runs the network on altered copies of each picture, one for each channel, which takes long.
    """

    name: str
    title: str
    run: Run
    needs_gradients: bool = False
    is_class_blind: bool = False
    reads_one_layer: bool = False
    formula: Formula | None = None
    alters_copies: bool = False


def _gradient_method(name: str, title: str, formula: Formula) -> Method:
    return Method(name, title, partial(by_gradient, formula), needs_gradients=True, formula=formula)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        _gradient_method("grad-cam", "Grad-CAM", formulas.grad_cam_map),
        _gradient_method("grad-cam++", "Grad-CAM++", formulas.grad_cam_plus_plus_map),
        _gradient_method("hirescam", "HiResCAM", formulas.hirescam_map),
        _gradient_method("layercam", "LayerCAM", formulas.layercam_map),
        _gradient_method("xgrad-cam", "XGrad-CAM", formulas.xgrad_cam_map),
        _gradient_method("grad-cam-elementwise", "element-wise Grad-CAM", formulas.grad_cam_elementwise_map),
        Method("cam", "CAM", cam),
        Method("score-cam", "Score-CAM", score_cam, alters_copies=True),
        Method("ablation-cam", "Ablation-CAM", ablation_cam, alters_copies=True),
        Method("eigen-cam", "Eigen-CAM", eigen_cam, is_class_blind=True),
        Method("attention-rollout", "attention rollout", attention_rollout, is_class_blind=True, reads_one_layer=True),
    )
}


def find_method(name: str) -> Method:
    """The method of that name; `GradCAM`, `grad_cam` and `Grad-CAM` all mean `grad-cam`.

    Raises:
        InspectionError: There is none.
    """
    found = _BY_PLAIN_NAME.get(_plain(name))
    if found is None:
        near = [_BY_PLAIN_NAME[plain].name for plain in near_names(_plain(name), _BY_PLAIN_NAME, 3)]
        raise InspectionError(
            f"There is no method {name!r} for class activation maps.",
            hint=f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(METHODS)}.",
        )
    return found


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


_BY_PLAIN_NAME = {_plain(name): method for name, method in METHODS.items()}
