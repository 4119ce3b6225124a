from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer, resnet18

from cutaway.errors import InspectionError
from cutaway.inspect import class_activation_maps

PICTURES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """Self-attention by `F.scaled_dot_product_attention`, as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count, length, _ = tokens.shape
        query, key, value = self.qkv(tokens).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return query, key, value

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.split(tokens))
        return self.proj(mixed.transpose(1, 2).reshape(tokens.shape))


class Small(nn.Module):
    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.class_token = nn.Parameter(torch.randn(1, 1, 12)) if class_token else None
        self.blocks = nn.ModuleList([Attention(12, 3) for _ in range(3)])
        self.head = nn.Linear(12, 4)

    def embed(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
        return tokens

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.head(tokens.mean(1) if self.class_token is None else tokens[:, 0])


@pytest.mark.parametrize("class_token", [True, False])
def test_rollout_by_the_papers_equation(class_token: bool) -> None:
    torch.manual_seed(0)
    network = Small(class_token)
    found = class_activation_maps(network, PICTURES, "attention-rollout")
    with torch.no_grad():
        tokens = network.embed(PICTURES)
        rolled = torch.eye(tokens.shape[1])
        for block in network.blocks:
            query, key, _ = block.split(tokens)
            attention = (query @ key.transpose(2, 3) / math.sqrt(4)).softmax(-1).mean(1)
            rolled = (0.5 * attention + 0.5 * torch.eye(tokens.shape[1])) @ rolled
            tokens = tokens + block(tokens)
        row = rolled[:, 0, 1:] if class_token else rolled.mean(1)
    assert found.maps.shape == (2, 2, 3)
    assert torch.allclose(found.maps, row.reshape(2, 2, 3), atol=1e-6)
    if not class_token:
        assert torch.allclose(found.maps.sum((1, 2)), torch.ones(2))


def test_torchvisions_vit_shows_its_attention_with_the_fast_path_on() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=3).eval()
    pictures = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected_logits = vit(pictures)
        found = class_activation_maps(vit, pictures, "attention-rollout")
        tokens = vit._process_input(pictures)
        tokens = torch.cat([vit.class_token.expand(2, -1, -1), tokens], 1) + vit.encoder.pos_embedding
        rolled = torch.eye(17)
        for block in vit.encoder.layers:
            normed = block.ln_1(tokens)
            attention = block.self_attention
            query, key, _ = (
                F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
                .view(2, 17, 3, 2, 4)
                .permute(2, 0, 3, 1, 4)
            )
            weights = (query @ key.transpose(2, 3) / 2).softmax(-1).mean(1)
            rolled = (weights + torch.eye(17)) / 2 @ rolled
            tokens = block(tokens)
    assert torch.allclose(found.maps, rolled[:, 0, 1:].reshape(2, 4, 4), atol=1e-6)
    assert torch.allclose(found.logits, expected_logits, atol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in vit.modules())


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_of_torch_with_masks_by_position(batch_first: bool) -> None:
    class Masked(Small):
        def __init__(self) -> None:
            super().__init__(True)
            self.blocks = nn.ModuleList([nn.MultiheadAttention(12, 3, batch_first=batch_first)])

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.embed(images)
            tokens = tokens if batch_first else tokens.transpose(0, 1)
            # The class token sees itself and the first three patches.
            mask = torch.zeros(7, 7)
            mask[0, 4:] = -torch.inf
            mixed = self.blocks[0](tokens, tokens, tokens, None, False, mask)[0]
            return self.head(mixed[:, 0] if batch_first else mixed[0])

    network = Masked()
    found = class_activation_maps(network, PICTURES, "attention-rollout", class_index=[[0, 1], [2, 3]])
    assert found.maps.shape == (2, 2, 2, 3)
    assert (found.maps[:, :, 0] > 0).all()
    assert not found.maps[:, :, 1].any()


def test_other_networks_are_refused_in_words() -> None:
    with pytest.raises(InspectionError, match=r"such as a ViT; no attention"):
        class_activation_maps(resnet18(), torch.randn(1, 3, 64, 64), "attention-rollout")
    with pytest.raises(InspectionError, match="all layers of attention"):
        class_activation_maps(Small(True), PICTURES, "attention-rollout", "patches")

    class Pooling(Small):
        def forward(self, images: Tensor) -> Tensor:
            tokens = self.embed(images)
            tokens = self.blocks[0](tokens)
            return self.head(self.blocks[1](tokens[:, :4])[:, 0])

    with pytest.raises(InspectionError, match=r"2 layers of attention were seen, over \[4, 7\] tokens"):
        class_activation_maps(Pooling(True), PICTURES, "attention-rollout")


@pytest.mark.parametrize("kind", ["boolean", "added", "causal"])
def test_masks_of_the_scaled_dot_product_hide_patches(kind: str) -> None:
    # What the first token may look at: itself and three patches, or, where each sees only what came before, itself.
    allowed = torch.ones(7, 7).tril().bool() if kind == "causal" else torch.ones(7, 7, dtype=torch.bool)
    allowed[0, 4:] = False
    added = torch.zeros(7, 7).masked_fill(~allowed, -torch.inf)
    mask = {"boolean": {"attn_mask": allowed}, "added": {"attn_mask": added}, "causal": {"is_causal": True}}[kind]

    class Masked(Attention):
        def forward(self, tokens: Tensor) -> Tensor:
            mixed = F.scaled_dot_product_attention(*self.split(tokens), **mask)
            return self.proj(mixed.transpose(1, 2).reshape(tokens.shape))

    torch.manual_seed(0)
    network = Small(kind != "causal")
    network.blocks = nn.ModuleList([Masked(12, 3)])
    pictures = PICTURES
    found = class_activation_maps(network, pictures, "attention-rollout").maps.flatten(1)
    with torch.no_grad():
        query, key, _ = network.blocks[0].split(network.embed(pictures))
        logits = (query @ key.transpose(2, 3) / 2) + added[: query.shape[2], : query.shape[2]]
        rolled = (logits.softmax(-1).mean(1) + torch.eye(query.shape[2])) / 2
    expected = rolled.mean(1) if kind == "causal" else rolled[:, 0, 1:]
    assert torch.allclose(found, expected, atol=1e-6)
    if kind != "causal":
        assert not found[:, 3:].any()
