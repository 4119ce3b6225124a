"""From a network, pictures and a question to class activation maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import untouched, why_alone, without_attention_fast_path
from cutaway.hooks.mixing import is_over_batch
from cutaway.hooks.naming import all_modules, is_compiled
from cutaway.inspect.class_activation.fusion import Fusion, fused
from cutaway.inspect.class_activation.methods import Method, find_method
from cutaway.inspect.class_activation.results import ClassActivation
from cutaway.inspect.class_activation.smoothing import Smoothing, smoothed
from cutaway.inspect.class_activation.targets import Classes, Question, Targets, joined
from cutaway.networks.target_layers import TargetLayer, find_target_layers
from cutaway.progress import Track, silent

Layers = TargetLayer | str | Sequence[TargetLayer | str] | None


def grad_cam(
    network: nn.Module,
    inputs: Tensor,
    target_layer: Layers = None,
    class_index: Classes = -1,
    *,
    against: Classes | None = None,
    top: int | None = None,
) -> ClassActivation:
    """Grad-CAM (Selvaraju et al., arXiv:1610.02391, equations 1 and 2).

    With A the target layer's maps and y the logit of the class: the weight of channel k is the mean of dy/dA_k over
    all positions, and the map is ReLU(sum over k of weight_k A_k). The gradient is taken from the target layer up
    only, so the whole costs little more than a forward pass. See `class_activation_maps` for the arguments, for the
    other methods, and for what else can be asked.

    Example:
        >>> activation = grad_cam(network, images, class_index=[3, -1])
        >>> activation.maps.shape, activation.has_evidence
    """
    return class_activation_maps(network, inputs, "grad-cam", target_layer, class_index, against=against, top=top)


def class_activation_maps(
    network: nn.Module,
    inputs: Tensor,
    method: str = "grad-cam",
    target_layer: Layers = None,
    class_index: Classes = -1,
    *,
    against: Classes | None = None,
    top: int | None = None,
    relu: bool = True,
    fusion: Fusion = "mean",
    smooth: Smoothing | bool = False,
    track: Track = silent,
) -> ClassActivation:
    """Which parts of each picture speak for a class, by any of the methods in `METHODS`.

    The network runs in evaluation mode and is left as it was; no `.grad` is written. It runs once for the gradient
    methods, CAM, Eigen-CAM and attention rollout, whatever the number of targets; once more per channel for Score-CAM
    and Ablation-CAM; and all that once more per view where maps are smoothed. A network whose answer to a picture
    depends on the pictures beside it, as that of batch norms without running statistics, is given them one by one, and
    `alone` says so; to notice, it is run on three pictures more when it is first given a batch.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        method: A name in `METHODS`.
        target_layer: Where to read the map: a layer's name, what `find_target_layer` gave, or None for the default.
            Several are fused into one map, see `fusion`.
        class_index: The class to explain: one for all samples, one per sample [N], or T per sample [N, T] or [1, T];
            -1 is a sample's top class.
        against: Explain why that class rather than this one: the difference of their logits. Same forms; -1 is the
            likeliest class beside the explained one.
        top: Explain each sample's so many top classes, instead of `class_index`.
        relu: Keep only what speaks for the class, as the papers do. Without, what speaks against it is negative.
        fusion: How maps of several layers become one: each is divided by its strongest value and resized to the
            finest, then their `mean` or `max` is taken.
        smooth: Average over mirrored and slightly scaled views of each picture; True for `Smoothing()`.
        track: Told of each picture by Score-CAM and Ablation-CAM, which take long.

    Returns:
        Maps [N, h, w], or [N, T, h, w] where T targets or `top` were asked for, with logits and classes.

    Raises:
        InspectionError: Gradients are impossible here, a class index does not exist, or the method does not fit the
            network or the question.
        NetworkError: There is no such target layer.

    Example:
        >>> class_activation_maps(network, images, "hirescam", against=-1).maps
        >>> class_activation_maps(network, images, "layercam", ["layer3", "layer4"], top=3).maps
    """
    chosen = find_method(method)
    _check(chosen, inputs, against, target_layer)
    # Gone through once: in a small network this takes a noticeable part of the whole.
    modules = all_modules(network)
    _check_not_scripted(chosen, network, modules)
    question = Question(class_index, against, top)
    with _called_module_by_module(modules):
        return _explained(
            network,
            modules,
            inputs,
            chosen,
            target_layer,
            question,
            relu=relu,
            fusion=fusion,
            smooth=smooth,
            track=track,
        )


def _explained(
    network: nn.Module,
    modules: Sequence[nn.Module],
    inputs: Tensor,
    chosen: Method,
    target_layer: Layers,
    question: Question,
    *,
    relu: bool,
    fusion: Fusion,
    smooth: Smoothing | bool,
    track: Track,
) -> ClassActivation:
    with untouched(network), torch.no_grad(), without_attention_fast_path():
        layers = _layers(network, inputs, target_layer)
        parameter = next((each for each in network.parameters() if each.is_floating_point()), None)
        if parameter is not None:
            inputs = inputs.to(parameter.device, parameter.dtype)
        if inputs.is_inference():
            # An inference tensor could not be kept for the gradient.
            inputs = inputs.clone()
        if any(module.training for module in modules):
            network.eval()
        # A single picture by itself mixes with nothing, unless the method itself puts altered copies beside it.
        may_mix = len(inputs) > 1 or chosen.alters_copies or any(map(is_over_batch, modules))
        alone = why_alone(network, inputs) if may_mix else None
        run = partial(_found, network, layers, chosen, relu, fusion, smooth, alone is not None, track)
        if alone is None or len(inputs) == 1:
            maps, logits, asked = run(inputs, question)
        else:
            parts = [run(*one) for one in zip(torch.split(inputs, 1), question.of_each(len(inputs)), strict=True)]
            maps = torch.cat([maps for maps, _, _ in parts])
            logits = torch.cat([logits for _, logits, _ in parts])
            asked = joined([asked for _, _, asked in parts])
    return ClassActivation(
        asked.squeezed(maps),
        logits,
        asked.squeezed(asked.class_index),
        tuple(layers),
        chosen.name,
        None if asked.against is None else asked.squeezed(asked.against),
        alone,
    )


def _found(
    network: nn.Module,
    layers: Sequence[TargetLayer],
    chosen: Method,
    relu: bool,
    fusion: Fusion,
    smooth: Smoothing | bool,
    alone: bool,
    track: Track,
    inputs: Tensor,
    question: Question,
) -> tuple[Tensor, Tensor, Targets]:
    """Maps [N, T, h, w], logits [N, K] and targets."""
    run = chosen.run
    if chosen.alters_copies:
        run = partial(run, track=track, **({"at_a_time": 1} if alone else {}))
    found, logits, asked = run(network, inputs, layers, question)
    # A sum is quickly found, and is no number where a part of it is none.
    if math.isnan(logits.sum()) and logits.isnan().any():
        raise InspectionError(
            "The network's logits are not finite.",
            hint="Have its weights diverged in training, or does the picture hold such values?",
        )
    maps = fused([_kept(each, relu) for each in found], fusion)
    if smooth:
        # Every view explains the classes of the picture itself.
        same = Question(asked.class_index, asked.against)

        def maps_of(view: Tensor) -> Tensor:
            return fused([_kept(each, relu) for each in run(network, view, layers, same)[0]], fusion)

        maps = smoothed(maps_of, inputs, maps, Smoothing() if smooth is True else smooth)
    return maps, logits, asked


def _called_module_by_module(modules: Sequence[nn.Module]) -> AbstractContextManager[Any]:
    """What `torch.compile` made of a network calls no hook of a layer inside it, so that runs as it was written."""
    return torch.compiler.set_stance("force_eager") if is_compiled(modules) else nullcontext()


def _check(method: Method, inputs: Tensor, against: Classes | None, target_layer: Layers) -> None:
    if method.needs_gradients and torch.is_inference_mode_enabled():
        raise InspectionError(
            f"{method.title} needs gradients, which torch.inference_mode() rules out.",
            hint="Call it outside inference_mode.",
        )
    if not isinstance(inputs, Tensor):
        raise InspectionError(
            f"{method.title} takes a tensor of preprocessed pictures, not a {type(inputs).__name__}.",
            hint="Make one of an array by `torch.from_numpy`.",
        )
    if inputs.dim() != 4 or not inputs.is_floating_point() or len(inputs) == 0:
        raise InspectionError(
            f"{method.title} takes preprocessed pictures as floats [N, C, H, W], not {inputs.dtype} "
            f"{list(inputs.shape)}.",
            hint="Put one picture into a batch with `picture[None]`, and pixels through the network's preprocessing.",
        )
    if method.is_class_blind and against is not None:
        raise InspectionError(
            f"{method.title} gives the same map for every class, so one cannot be held against another.",
            hint="Use Grad-CAM or another method that knows classes.",
        )
    if method.reads_one_layer and target_layer is not None and not isinstance(target_layer, TargetLayer):
        raise InspectionError(
            f"{method.title} goes through all layers of attention, so there is none to choose.",
            hint="Leave the layer out.",
        )


def _check_not_scripted(method: Method, network: nn.Module, modules: Sequence[nn.Module]) -> None:
    # Names are looked for only where there is such a module: this runs before every explanation.
    if any(issubclass(kind, torch.jit.ScriptModule) for kind in set(map(type, modules))):
        names = [name for name, part in network.named_modules() if isinstance(part, torch.jit.ScriptModule)]
        raise InspectionError(
            f"{method.title} cannot look into TorchScript, which {names[0] or 'the network'} is.",
            hint="Use the module as it was before `torch.jit.script` or `torch.jit.trace`.",
        )


def _layers(network: nn.Module, inputs: Tensor, asked: Layers) -> list[TargetLayer]:
    _, channels, height, width = inputs.shape
    wanted = [asked] if asked is None or isinstance(asked, str | TargetLayer) else list(asked)
    if not wanted:
        raise InspectionError("There is no layer to read the maps at.", hint="Name one, or leave it out.")
    if len(set(wanted)) < len(wanted):
        raise InspectionError("A layer is named twice.", hint="Name each layer once.")
    unknown = [each for each in wanted if not isinstance(each, TargetLayer)]
    found = iter(find_target_layers(network, (channels, height, width), unknown) if unknown else ())
    return [each if isinstance(each, TargetLayer) else next(found) for each in wanted]


def _kept(maps: Tensor, relu: bool) -> Tensor:
    # Where the sum is finite, which is quickly found, so is each part of it.
    if not math.isfinite(maps.sum()) and not maps.isfinite().all():
        raise InspectionError(
            "The class activation map holds values that are not finite.",
            hint="Have the network's weights diverged in training, or does the picture hold such values?",
        )
    return maps.relu() if relu else maps
