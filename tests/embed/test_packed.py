"""Attention without padding gives each text what it has alone, and model families that cannot have it are padded."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.torch
LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=12).map(lambda found: sorted(found, reverse=True))


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    """Imported by the process that runs these tests, and not by all that collect them."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def packed(torch: ModuleType) -> ModuleType:
    from pipelines.embed import packed

    return packed


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 3), st.sampled_from([8, 32]))
def test_each_text_attends_to_itself_alone(
    torch: ModuleType, packed: ModuleType, lengths: list[int], heads: int, dimensions: int
) -> None:
    tokens = sum(lengths)
    query, key, value = torch.randn(3, 1, heads, tokens, dimensions, generator=torch.Generator().manual_seed(tokens))
    layout = packed.layout_of(lengths, heads, torch.device("cpu"), torch.float32)
    found, _ = packed.attend(None, query, key, value, packed=layout)
    assert found.shape == (1, tokens, heads, dimensions)
    start = 0
    for length in lengths:
        own = slice(start, start + length)
        alone = torch.nn.functional.scaled_dot_product_attention(query[:, :, own], key[:, :, own], value[:, :, own])
        torch.testing.assert_close(found[0, own], alone[0].transpose(0, 1), rtol=1e-4, atol=1e-5)
        start += length


def test_inputs_are_left_as_they_were(torch: ModuleType, packed: ModuleType) -> None:
    query, key, value = torch.randn(3, 1, 1, 16, 8)
    before = query.clone()
    packed.attend(None, query, key, value, packed=packed.layout_of([16], 1, torch.device("cpu"), torch.float32))
    assert torch.equal(query, before)


@given(LENGTHS)
def test_groups_hold_every_token_once(torch: ModuleType, packed: ModuleType, lengths: list[int]) -> None:
    layout = packed.layout_of(lengths, 12, torch.device("cpu"), torch.float32)
    assert sum(group.texts for group in layout.groups) == len(lengths)
    assert layout.ends.tolist() == [0, *np.cumsum(lengths).tolist()]


def test_unpacked_texts_are_padded_behind_and_masked(torch: ModuleType, packed: ModuleType) -> None:
    padded, mask = packed.unpacked(torch.tensor([[1.0], [2.0], [3.0]]), [2, 1])
    assert padded[..., 0].tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert mask.tolist() == [[1, 1], [1, 0]]
