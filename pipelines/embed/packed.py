"""Attention without padding: the texts of a batch lie one behind the other, and attend to themselves alone.

Every other step of a transformer treats tokens one by one, so that none is spent on padding. Knows tensors and lengths;
knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

NAME = "backhaul_packed"
_MULTIPLE = 16  # to which texts are padded for one matrix product; their other steps have no padding
_SCORES = 1 << 20  # attention scores of one product: they are read back while they are in the cache


@dataclass(frozen=True, slots=True)
class Group:
    """Texts that attend in one product. ``rows`` int64[texts * length] are their tokens, where a text is shorter, of its
    first one again; ``bias`` [texts, 1, 1, length] keeps those out, or is None where there are none."""

    texts: int
    length: int
    start: int
    rows: torch.Tensor
    bias: torch.Tensor | None
    back: torch.Tensor | None  # int64[tokens]: where each token of the group is among its rows


@dataclass(frozen=True, slots=True)
class Layout:
    """Texts of ``lengths``, the longest first, one behind the other. ``ends`` int32[texts + 1] begins with 0."""

    lengths: tuple[int, ...]
    ends: torch.Tensor
    groups: tuple[Group, ...]


def layout_of(lengths: Sequence[int], heads: int, device: torch.device, dtype: torch.dtype) -> Layout:
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    groups, first, start = [], 0, 0
    while first < len(lengths):
        length = -(-lengths[first] // _MULTIPLE) * _MULTIPLE
        most = max(1, _SCORES // (heads * length * length)) if device.type == "cpu" else len(lengths)
        last = first
        while last < len(lengths) and last - first < most and lengths[last] > length - _MULTIPLE:
            last += 1
        groups.append(_group(lengths[first:last], start, device, dtype))
        start += sum(lengths[first:last])
        first = last
    return Layout(tuple(lengths), ends, tuple(groups))


def _group(lengths: Sequence[int], start: int, device: torch.device, dtype: torch.dtype) -> Group:
    length = max(lengths)
    if min(lengths) == length:  # as they lie
        rows = torch.arange(start, start + len(lengths) * length, device=device)
        return Group(len(lengths), length, start, rows, None, None)
    own = torch.tensor(lengths, device=device)[:, None]
    at = torch.arange(length, device=device)[None, :]
    begins = own.cumsum(0) - own + start
    inside = at < own
    bias = torch.zeros(inside.shape, dtype=dtype, device=device).masked_fill_(~inside, -math.inf)
    rows = (begins + torch.where(inside, at, 0)).flatten()
    return Group(len(lengths), length, start, rows, bias[:, None, None, :], inside.flatten().nonzero()[:, 0])


def attend(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any = None,
           scaling: float | None = None, *, packed: Layout, **_: Any) -> tuple[torch.Tensor, None]:  # fmt: skip
    """An attention function of transformers, for [1, heads, tokens, dimensions]; gives [1, tokens, heads, dimensions]."""
    scale = scaling if scaling is not None else query.size(-1) ** -0.5
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))  # [tokens, heads, dimensions]
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _attend_in_one_kernel(q, k, v, packed, scale)[None], None
    found = torch.empty_like(q, memory_format=torch.contiguous_format)
    for group in packed.groups:
        _attend_in_products(q, k, v, group, scale, found)
    return found[None], None


def no_mask(*_: Any, **__: Any) -> None:
    """A mask function of transformers: the layout says who attends to whom."""


def unpacked(hidden: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """[texts, longest, dimensions] with zeros behind each text, and its mask int64[texts, longest]."""
    padded = torch.nn.utils.rnn.pad_sequence(torch.split(hidden, list(lengths)), batch_first=True)
    at = torch.arange(padded.shape[1], device=hidden.device)
    return padded, (at[None, :] < torch.tensor(lengths, device=hidden.device)[:, None]).long()


def _attend_in_one_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: Layout,
                          scale: float) -> torch.Tensor:  # fmt: skip
    """FlashAttention over texts of any length, as PyTorch carries it. One split: a text's sums then are in the same order
    whatever is beside it."""
    from torch.nn.attention.varlen import varlen_attn

    longest = packed.lengths[0]
    found: torch.Tensor = varlen_attn(query, key, value, packed.ends, packed.ends, longest, longest, scale=scale,
                                      num_splits=1)  # fmt: skip
    return found


def _attend_in_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: Group, scale: float,
                        found: torch.Tensor) -> None:  # fmt: skip
    """Matrix products over texts of nearly one length. On processors PyTorch's fused attention takes twice the time."""
    heads, dimensions = query.shape[1:]
    tokens = slice(group.start, group.start + (group.rows if group.back is None else group.back).numel())

    def of_heads(flat: torch.Tensor) -> torch.Tensor:  # [texts * heads, length, dimensions]
        taken = flat[tokens] if group.back is None else flat.index_select(0, group.rows)
        by_text = taken.reshape(group.texts, group.length, heads, dimensions).transpose(1, 2)
        return by_text.reshape(group.texts * heads, group.length, dimensions)

    scores = torch.bmm(of_heads(query) * scale, of_heads(key).transpose(1, 2))
    if group.bias is not None:
        scores.view(group.texts, heads, group.length, group.length).add_(group.bias)
    mixed = torch.bmm(scores.softmax(-1), of_heads(value))
    rows = mixed.view(group.texts, heads, group.length, dimensions).transpose(1, 2)
    rows = rows.reshape(group.texts * group.length, heads, dimensions)
    found[tokens] = rows if group.back is None else rows.index_select(0, group.back)
