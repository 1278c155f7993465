"""Memory attention, for any number of objects: what the objects have in common is computed once, and keys are rotated as
complex numbers, as in the official code, which is several times quicker than the pairs of `transformers`."""

from __future__ import annotations

from math import e, log2
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_QUERIES, _KEYS = 1024, 512
"""At a time: their weights are 2 MB."""
_LEAST = -120.0
"""Weights below two to the power of this count as that; numbers below the normal ones take ten times as long."""


def rotations(attention: Any, places: Tensor) -> Tensor:
    """complex64 (N, d / 2): how far each of N places turns each pair of channels (RoPE, axial).

    attention: the `memory_attention` of the network. places: its table of columns and rows, (N, 2).
    """
    cos, sin = attention.rotary_emb(attention.layer_norm.weight, places)
    return torch.complex(cos[0, :, ::2].float(), sin[0, :, ::2].float())


def attend(
    attention: Any,
    top: Tensor,
    positions: Tensor,
    memory: Tensor,
    places: Tensor,
    told: int,
    turns: Tensor,
    memory_turns: Tensor,
) -> Tensor:
    """The picture's features in the light of each object's memory: (n, HW, C).

    top, positions: (HW, 1, C), of the picture. memory: (N, n, c). places: (N, 1, c), where and when the memory's tokens
    are from. told: how many tokens, at the end, are pointers, which have no place in the picture. turns, memory_turns:
    `rotations` of the picture's tokens and of one frame's memory.
    """
    hidden = (top + 0.1 * positions).transpose(0, 1)
    memory = memory.transpose(0, 1)
    keys = memory + places.transpose(0, 1)
    for layer in attention.layers:
        own = layer.layer_norm1(hidden)  # in the first layer the same for all objects: a batch of one
        hidden = hidden + _attention(layer.self_attn, own, own, own, turns, turns, 0)
        asking = layer.layer_norm2(hidden)
        hidden = hidden + _attention(layer.cross_attn_image, asking, keys, memory, turns, memory_turns, told)
        hidden = hidden + _feed_forward(layer, layer.layer_norm3(hidden))
    result: Tensor = attention.layer_norm(hidden)
    return result


def _feed_forward(layer: Any, hidden: Tensor) -> Tensor:
    out: Tensor = layer.mlp(hidden) if hasattr(layer, "mlp") else layer.linear2(layer.activation(layer.linear1(hidden)))
    return out


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, turns: Tensor, key_turns: Tensor, told: int
) -> Tensor:
    heads = module.num_attention_heads
    q, k = (
        project(tokens).unflatten(2, (heads, -1)).transpose(1, 2)
        for project, tokens in ((module.q_proj, query), (module.k_proj, key))
    )
    placed = k.shape[2] - told
    k = torch.cat([_turned(k[:, :, :placed], key_turns), k[:, :, placed:]], 2) if told else _turned(k, key_turns)
    q = _turned(q, turns).expand(len(k), -1, -1, -1)
    narrow = heads == 1 and value.shape[2] < q.shape[3]
    if narrow and value.device.type == "cpu":  # kernels of GPUs want values as wide as keys
        # weights sum to one, so the mean of projections is the projection of the mean
        each = zip(q[:, 0], k[:, 0], value, strict=True)
        out = module.v_proj(torch.stack([_mean(*parts, module.scaling) for parts in each]))
    else:
        v = module.v_proj(value).unflatten(2, (heads, -1)).transpose(1, 2)
        out = functional.scaled_dot_product_attention(q, k, v, scale=module.scaling).transpose(1, 2).flatten(2)
    result: Tensor = module.o_proj(out)
    return result


def _mean(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """For each query (Nq, d) the mean of values (Nk, c), weighted by how well their keys (Nk, d) answer it: (Nq, c).

    Piece by piece, so that weights stay in the processor's cache: what was summed is brought down whenever a larger weight
    turns up (Milakov and Gimelshein 2018, arXiv:1805.02867). Powers of two, which take half the time of those of e.
    """
    means = query.new_empty(len(query), values.shape[1])
    counted = torch.cat([values, torch.ones_like(values[:, :1])], 1)  # the last column sums the weights
    for asked, mean in zip(torch.split(query * (scale * log2(e)), _QUERIES), torch.split(means, _QUERIES), strict=True):
        top = asked.new_full((len(asked), 1), -torch.inf)
        sums = asked.new_zeros(len(asked), counted.shape[1])
        for some, theirs in zip(torch.split(keys, _KEYS), torch.split(counted, _KEYS), strict=True):
            weights = torch.mm(asked, some.T)
            higher = torch.maximum(top, weights.amax(1, keepdim=True))
            weights.sub_(higher).clamp_(min=_LEAST).exp2_()
            sums.mul_(top.sub_(higher).exp2_()).addmm_(weights, theirs)
            top = higher
        torch.div(sums[:, :-1], sums[:, -1:], out=mean)
    return means


def _turned(tokens: Tensor, turns: Tensor) -> Tensor:
    """tokens: (n, heads, m * N, d), m pictures one after another."""
    pairs = torch.view_as_complex(tokens.float().reshape(*tokens.shape[:2], -1, *turns.shape, 2))
    return torch.view_as_real(pairs * turns).reshape(tokens.shape).to(tokens.dtype)
