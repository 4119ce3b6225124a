"""torchvision's classification networks, built without weights and with a head for our number of classes."""

from __future__ import annotations

from torch import nn

from cutaway.errors import NetworkError
from cutaway.networks.spec import NetworkSpec

# Networks whose positional embedding or pooling fixes the side of the picture.
_FIXED_SIZE = {"vit_b_16": 224, "vit_b_32": 224, "vit_l_16": 224, "vit_l_32": 224, "vit_h_14": 224, "maxvit_t": 224}
_USUAL_SIZE = {"inception_v3": 299}
# Networks with heads halfway that help in training, and that nothing runs outside it.
WITH_AUXILIARY_HEADS = frozenset({"googlenet", "inception_v3"})


def model_names() -> tuple[str, ...]:
    """Names of all of torchvision's classification models that take floating-point weights."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def usual_size(model: str) -> int:
    """Side in pixels of the pictures that the network was designed for."""
    return _FIXED_SIZE.get(model) or _USUAL_SIZE.get(model, 224)


def takes_one_size(model: str) -> bool:
    """Whether the network takes pictures of `usual_size` and no other."""
    return model in _FIXED_SIZE


def check_known(model: str) -> None:
    """Refuses a name that torchvision has no classification network for.

    Raises:
        NetworkError: Names those that are spelled like it.
    """
    if model not in model_names():
        raise NetworkError(f"torchvision has no classification network named '{model}'.", hint=_nearest(model))


def build_torchvision(
    spec: NetworkSpec, model: str, dropout: float | None = None, aux_logits: bool = False
) -> nn.Module:
    """Builds the model at random initialisation, with `num_classes` outputs and a stem for the channels.

    Args:
        spec: What to build.
        model: torchvision's name of it.
        dropout: torchvision's own where None.
        aux_logits: Build the auxiliary heads too, of those that have them.

    Raises:
        NetworkError: The model is unknown, or the picture does not fit it.
    """
    from torchvision import models

    check_known(model)
    channels, height, width = spec.input_shape
    fixed = _FIXED_SIZE.get(model)
    if fixed and (height, width) != (fixed, fixed):
        raise NetworkError(
            f"torchvision:{model} takes pictures of exactly {fixed}x{fixed} pixels, not {height}x{width}.",
            hint=f"Give --image-size {fixed}.",
        )
    arguments: dict[str, object] = {"num_classes": spec.num_classes, "weights": None}
    if dropout is not None:
        arguments["dropout"] = dropout
    if model in WITH_AUXILIARY_HEADS:
        # Without pretrained weights torchvision would initialise these two slowly, and warn.
        arguments |= {"init_weights": False, "aux_logits": aux_logits}
    try:
        network = models.get_model(model, **arguments)
    except TypeError as error:
        raise NetworkError(f"torchvision:{model} does not take these arguments: {error}.") from error
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network  # type: ignore[no-any-return]


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    name, first = next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    replacement = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        first.groups,
        bias=first.bias is not None,
        device=first.weight.device,
    )
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, replacement)


def _nearest(model: str) -> str:
    import difflib

    near = difflib.get_close_matches(model, model_names(), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else "Names are those of torchvision.models, such as resnet18."
