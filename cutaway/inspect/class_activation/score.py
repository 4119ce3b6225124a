"""Score-CAM: each channel weighs what the network answers where only that channel's region is left of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.inspect.class_activation.passes import logits_of, run_plainly, without_autocast
from cutaway.inspect.class_activation.targets import Question, Targets, targets
from cutaway.networks.target_layers import TargetLayer
from cutaway.progress import Track, silent

AT_A_TIME = 32


def score_cam(
    network: nn.Module,
    inputs: Tensor,
    layers: Sequence[TargetLayer],
    question: Question,
    *,
    at_a_time: int = AT_A_TIME,
    track: Track = silent,
) -> tuple[list[Tensor], Tensor, Targets]:
    """Wang et al., arXiv:1910.01279, algorithm 1; no gradient, and one forward pass per channel and picture.

    A channel's map, resized to the picture and scaled to 0..1, is a mask; the weights are the softmax over channels
    of the scores of the masked pictures. (The paper takes the score of a baseline picture off each of them, which a
    softmax does not see.) What is masked becomes zero after normalisation: the mean colour of the training pictures.
    A channel with the same value everywhere masks nothing and weighs nothing.
    """
    outputs, logits = run_plainly(network, inputs, layers)
    asked = targets(question, logits)
    found = []
    for layer, output in zip(layers, outputs, strict=True):
        maps = layer.as_maps(output)
        weights = torch.stack(
            [
                _weights(network, inputs[sample], maps[sample], asked, sample, at_a_time, track)
                for sample in range(len(inputs))
            ]
        )
        precise = torch.promote_types(maps.dtype, torch.float32)
        with without_autocast(maps):
            found.append(torch.einsum("ntc,nchw->nthw", weights.to(precise).to(maps.device), maps.to(precise)))
    return found, logits, asked


def _weights(
    network: nn.Module, picture: Tensor, maps: Tensor, asked: Targets, sample: int, at_a_time: int, track: Track
) -> Tensor:
    """The channels' weights for one picture: [C, H, W] and maps [C, h, w] -> [T, C], on the CPU."""
    # In float64, which not every device has.
    scores = torch.full((len(asked), len(maps)), -torch.inf, dtype=torch.float64)
    parts = torch.split(_varying(maps), at_a_time)
    for channels in track(parts, "masking by channels", len(parts)):
        masks = F.interpolate(
            maps[channels, None].to(picture.dtype), picture.shape[1:], mode="bilinear", align_corners=False
        )
        low, high = masks.amin((1, 2, 3), keepdim=True), masks.amax((1, 2, 3), keepdim=True)
        answers = logits_of(network, picture * ((masks - low) / (high - low)))
        scores[:, channels.cpu()] = asked.scores_of(sample, answers).cpu().double().T
    return scores.softmax(1).nan_to_num_()


def _varying(maps: Tensor) -> Tensor:
    """The channels that differ between positions by more than rounding, which scaling to 0..1 would blow up."""
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    return (high - low > 1e-5 * torch.maximum(low.abs(), high.abs())).nonzero()[:, 0]
