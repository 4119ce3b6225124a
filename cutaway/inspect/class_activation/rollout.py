"""Attention rollout: how much of each patch reaches the class token of a vision transformer through all its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cutaway.errors import InspectionError
from cutaway.inspect.class_activation.passes import run_plainly, without_autocast
from cutaway.inspect.class_activation.targets import Question, Targets, targets
from cutaway.networks.target_layers import MOST_EXTRA_TOKENS, TargetLayer


def attention_rollout(
    network: nn.Module, inputs: Tensor, layers: Sequence[TargetLayer], question: Question
) -> tuple[list[Tensor], Tensor, Targets]:
    """Abnar and Zuidema, arXiv:2005.00928, equation 1: the product over layers of (A + I) / 2.

    A is a layer's attention, the mean over its heads, and I stands for the residual connection. The map is the first
    token's row over the patches, or the mean of all rows where there is no token beside the patches. Values are
    shares of 1. The class plays no part. Attention is seen in `nn.MultiheadAttention` and in
    `F.scaled_dot_product_attention`, which is what torchvision's, timm's and most hand-written networks use.

    Raises:
        InspectionError: The network's layers don't all attend over the same patches.
    """
    (layer,) = layers
    with recorded_attention(network) as attentions:
        (output,), logits = run_plainly(network, inputs, layers)
    asked = targets(question, logits)
    # The layer of a gradient method tells how the patches lie.
    height, width = layer.as_maps(output).shape[2:]
    shapes = {tuple(attention.shape) for attention in attentions}
    num_tokens = attentions[0].shape[-1] if attentions else 0
    if shapes != {(len(inputs), num_tokens, num_tokens)} or not 0 <= num_tokens - height * width <= MOST_EXTRA_TOKENS:
        seen = f"{len(attentions)} layers of attention were seen, over {sorted({shape[-1] for shape in shapes})} tokens"
        raise InspectionError(
            "Attention rollout needs a network whose layers all attend over the same patches, such as a ViT; "
            f"{seen if attentions else 'no attention was seen'}.",
            hint="Use Grad-CAM, which works on convolutions and on windows of patches.",
        )
    identity = torch.eye(num_tokens, dtype=attentions[0].dtype, device=inputs.device)
    rolled = identity.expand(len(inputs), -1, -1)
    with without_autocast(inputs):
        for attention in attentions:
            rolled = (attention + identity) / 2 @ rolled
    row = rolled[:, 0] if num_tokens > height * width else rolled.mean(1)
    maps = row[:, -height * width :].reshape(len(inputs), 1, height, width)
    return [maps.expand(-1, len(asked), -1, -1).clone()], logits, asked


@contextmanager
def recorded_attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """Notes the attention of every layer that runs in the block, averaged over heads: float [N, queries, keys] each."""
    seen: list[Tensor] = []

    def ask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # Query, key, value and key_padding_mask may come by position; need_weights would be the fifth.
        wanted = {"need_weights": True, "average_attn_weights": True}
        return args[:4], kwargs | dict(zip(("need_weights", "attn_mask"), args[4:6], strict=False)) | wanted

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: tuple[Tensor, Tensor]) -> Any:
        seen.append(output[1].float())
        return output

    handles = []
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            handles.append(module.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(module.register_forward_hook(note, with_kwargs=True))
    try:
        with _WatchingAttention(seen):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


class _WatchingAttention(TorchFunctionMode):
    """Computes the weights that `F.scaled_dot_product_attention` keeps to itself."""

    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._seen.append(_weights(*args, **kwargs))
        return func(*args, **kwargs)


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """[N, heads, queries, D] and [N, heads, keys, D] -> [N, queries, keys]."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    with without_autocast(query):
        logits = query.float() @ key.float().transpose(-2, -1) * (scale or 1 / math.sqrt(query.shape[-1]))
    if is_causal:
        logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    return logits.softmax(-1).mean(1)
