"""Ablation-CAM: each channel weighs what the score loses without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.class_activation.passes import logits_of, module_of, run_plainly, without_autocast
from cutaway.inspect.class_activation.targets import Question, Targets, targets
from cutaway.networks.target_layers import TargetLayer
from cutaway.progress import Track, silent

MOST_VALUES = 2**24
AT_A_TIME = 32
_CHANNELS = {"nchw": 1, "nhwc": 3, "tokens": 2}


def ablation_cam(
    network: nn.Module,
    inputs: Tensor,
    layers: Sequence[TargetLayer],
    question: Question,
    *,
    at_a_time: int | None = None,
    track: Track = silent,
) -> tuple[list[Tensor], Tensor, Targets]:
    """Desai and Ramaswamy, WACV 2020, equations 4 and 5: channel k weighs (y - y_k) / |y|.

    y_k is the score with the channel's map set to zero, for tokens at the patches alone. The paper divides by y, which
    turns the map over where the score is negative; its size does the same scaling without that. The layers below the
    target run once per group of channels and for one picture only.
    """
    outputs, logits = run_plainly(network, inputs, layers)
    asked = targets(question, logits)
    # In float64 on the CPU, since not every device has it.
    whole = asked.scores(logits).cpu().double()
    scale = whole.abs().clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    found = []
    for layer, output in zip(layers, outputs, strict=True):
        maps = layer.as_maps(output)
        without = torch.stack(
            [
                _scores_without(network, inputs, output, layer, asked, sample, at_a_time, track)
                for sample in range(len(inputs))
            ]
        )
        precise = torch.promote_types(maps.dtype, torch.float32)
        weights = (whole[..., None] - without) / scale
        with without_autocast(maps):
            found.append(torch.einsum("ntc,nchw->nthw", weights.to(precise).to(maps.device), maps.to(precise)))
    return found, logits, asked


def _scores_without(
    network: nn.Module,
    inputs: Tensor,
    output: Tensor,
    layer: TargetLayer,
    asked: Targets,
    sample: int,
    at_a_time: int | None,
    track: Track,
) -> Tensor:
    """One picture's scores without each channel: [T, C], on the CPU."""
    dimension = _CHANNELS[layer.layout]
    picture, own = inputs[sample : sample + 1], output[sample : sample + 1]
    scores = []
    # As many at a time as memory allows, since the layers below run each time.
    at_a_time = max(1, min(256, MOST_VALUES // own.numel())) if at_a_time is None else at_a_time
    starts = range(0, output.shape[dimension], at_a_time)
    for start in track(starts, "leaving channels out", len(starts)):
        channels = range(start, min(start + at_a_time, output.shape[dimension]))
        ablated = own.repeat(len(channels), *[1] * (own.dim() - 1))
        for row, channel in enumerate(channels):
            # The same memory: for tokens, `as_maps` leaves the class token out.
            _patches(ablated[row : row + 1], layer).select(dimension, channel).zero_()
        scores.append(asked.scores_of(sample, _answers(network, picture, ablated, layer)).cpu().double())
    return torch.cat(scores).T


def _patches(output: Tensor, layer: TargetLayer) -> Tensor:
    if layer.grid is None:
        return output
    height, width = layer.grid
    return output[:, -height * width :]


def _answers(network: nn.Module, picture: Tensor, replaced: Tensor, layer: TargetLayer) -> Tensor:
    """The logits where the layer returns something else, for many of them and one picture: [B, K].

    The picture goes in once and comes out of the layer B times. A network that tells the layers above how many
    pictures went in (`x.view(n, -1)`, a skip around the layer) may not bear that; then it goes in B times.
    """
    rows = slice(None)

    def replace(module: nn.Module, args: Any, output: Any) -> Tensor:
        return replaced[rows].clone()

    handle = module_of(network, layer).register_forward_hook(replace)
    try:
        try:
            answers = network(picture)
            answers = getattr(answers, "logits", answers)
            if isinstance(answers, Tensor) and answers.dim() == 2 and len(answers) == len(replaced):
                return answers
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, InspectionError):
                raise
        parts = []
        for start in range(0, len(replaced), AT_A_TIME):
            rows = slice(start, min(start + AT_A_TIME, len(replaced)))
            parts.append(logits_of(network, picture.expand(rows.stop - rows.start, -1, -1, -1)))
        return torch.cat(parts)
    finally:
        handle.remove()
