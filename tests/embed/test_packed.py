"""Attention without padding gives each text what it has alone, and model families that cannot have it are padded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pipelines.embed.packed import attend, layout_of, unpacked  # noqa: E402

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=12).map(lambda found: sorted(found, reverse=True))


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 3), st.sampled_from([8, 32]))
def test_each_text_attends_to_itself_alone(lengths: list[int], heads: int, dimensions: int) -> None:
    tokens = sum(lengths)
    query, key, value = torch.randn(3, 1, heads, tokens, dimensions, generator=torch.Generator().manual_seed(tokens))
    layout = layout_of(lengths, heads, CPU, torch.float32)
    found, _ = attend(None, query, key, value, packed=layout)
    assert found.shape == (1, tokens, heads, dimensions)
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        alone = torch.nn.functional.scaled_dot_product_attention(query[:, :, own], key[:, :, own], value[:, :, own])
        torch.testing.assert_close(found[0, own], alone[0].transpose(0, 1), rtol=1e-4, atol=1e-5)
        start += length


def test_inputs_are_left_as_they_were() -> None:
    query, key, value = torch.randn(3, 1, 1, 16, 8)
    before = query.clone()
    attend(None, query, key, value, packed=layout_of([16], 1, CPU, torch.float32))
    assert torch.equal(query, before)


@given(LENGTHS)
def test_groups_hold_every_token_once(lengths: list[int]) -> None:
    layout = layout_of(lengths, 12, CPU, torch.float32)
    assert sum(group.texts for group in layout.groups) == len(lengths)
    assert layout.ends.tolist() == [0, *np.cumsum(lengths).tolist()]


def test_unpacked_texts_are_padded_behind_and_masked() -> None:
    padded, mask = unpacked(torch.tensor([[1.0], [2.0], [3.0]]), [2, 1])
    assert padded[..., 0].tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert mask.tolist() == [[1, 1], [1, 0]]
