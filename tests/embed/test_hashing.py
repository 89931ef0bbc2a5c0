"""What the hash embedder promises beyond the contract: exact independence of batch, process and machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import Embedder
from pipelines.embed.settings import EmbedSettings


def embedder(dimensions: int) -> Embedder:
    return open_embedder(EmbedSettings(backend="hash", dimensions=dimensions, threads=1))


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=12), dimensions=st.sampled_from([1, 2, 3, 64]))
def test_a_vector_does_not_depend_on_its_neighbours(texts: list[str], dimensions: int) -> None:
    together = embedder(dimensions).embed(texts, "document")
    alone = [embedder(dimensions).embed([text], "document")[0] for text in texts]
    assert [vector.tobytes() for vector in together] == [vector.tobytes() for vector in alone]


@settings(deadline=None)
@given(text=st.text(max_size=40), dimensions=st.sampled_from([1, 2, 8]))
def test_no_vector_is_zero_even_where_words_cancel_out(text: str, dimensions: int) -> None:
    assert np.linalg.norm(embedder(dimensions).embed([text], "document")) > 0.99


def test_a_table_that_forgets_words_changes_nothing() -> None:
    words = [f"word{i}" for i in range(40_000)]
    one = embedder(16)
    first = one.embed(words[:100], "document")
    one.embed(words, "document")
    assert one.embed(words[:100], "document").tobytes() == first.tobytes()


def test_more_words_at_once_than_the_table_holds() -> None:
    texts = [" ".join(f"w{i}x{j}" for j in range(500)) for i in range(60)]
    one = embedder(8)
    assert one.embed(texts, "document")[-1].tobytes() == embedder(8).embed(texts[-1:], "document")[0].tobytes()


def test_other_processes_and_hash_seeds_give_the_same_bits() -> None:
    script = (
        "import sys; from pipelines.embed.backends import open_embedder as o\n"
        "from pipelines.embed.settings import EmbedSettings as S\n"
        "sys.stdout.buffer.write(o(S(backend='hash', dimensions=32)).embed(['Größe matters', 'b'], 'query').tobytes())"
    )
    found = {
        subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, timeout=60,
                       capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {embedder(32).embed(["Größe matters", "b"], "document").tobytes()}


def test_the_bits_are_those_of_the_first_release() -> None:
    vectors = embedder(64).embed(["The quick brown fox", "jumps over", ""], "document")
    assert hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest() == GOLDEN


GOLDEN = "fcc2c947843c15e1fcf104027ec6c972dddc83d4b0fd21efb18ca6720e5ca030"
