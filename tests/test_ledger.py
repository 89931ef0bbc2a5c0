"""The ledger: every token is accounted for, by type and in all, however partitions are cut and whatever is not known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipelines.ledger import Counts, Ledger, length_bucket, total

MAX = 256
Event = tuple[str, str, str | None, int]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["chunk", "truncated", "zero", "nan", "poison_chunk", "empty_text", "blank_text", "encoding",
                               "not_text", "broken_json"]),
              st.sampled_from(["a.jsonl", "b.jsonl", "c.jsonl"]), st.sampled_from([None, "faq", "guide"]), st.integers(1, MAX)),
    max_size=60,
)  # fmt: skip


def count(events: list[Event]) -> Ledger:
    ledger = Ledger()
    for kind, source, doc_type, tokens in events:
        if kind in ("chunk", "truncated", "zero", "nan"):
            ledger.document(doc_type)
            ledger.chunk(source, doc_type, tokens + (MAX if kind == "truncated" else 0), max_tokens=MAX)
        if kind in ("zero", "nan"):
            ledger.bad_vector(source, doc_type, zero=kind == "zero")
            ledger.no_vector(doc_type, tokens)
            ledger.reject("bad_vector", source, doc_type)
        elif kind not in ("chunk", "truncated"):
            ledger.reject(kind, source, doc_type)
    return ledger


@given(EVENTS)
def test_each_token_is_embedded_or_lost_in_one_way(events: list[Event]) -> None:
    found = count(events).to_json()
    whole = {
        kind: [tokens for each, _, _, tokens in events if each == kind]
        for kind in ("chunk", "truncated", "zero", "nan")
    }
    assert found["embedded_tokens"] == sum(whole["chunk"]) + MAX * len(whole["truncated"])
    assert found["truncated_tokens"] == sum(whole["truncated"])
    assert found["rejected_tokens"] == sum(whole["zero"]) + sum(whole["nan"])
    assert found["tokens"] == found["embedded_tokens"] + found["truncated_tokens"] + found["rejected_tokens"]
    assert found["reused_tokens"] == 0
    assert sum(found["lengths"].values()) == found["chunks"] == sum(map(len, whole.values()))


@given(EVENTS, EVENTS)
def test_the_total_of_partitions_is_the_ledger_of_all_their_events(left: list[Event], right: list[Event]) -> None:
    assert total([count(left).to_json(), count(right).to_json()]) == count(left + right).to_json()


@given(EVENTS)
def test_types_and_sources_add_up_to_all(events: list[Event]) -> None:
    found = count(events).to_json()
    for name in Counts().to_json():
        assert sum(counts[name] for counts in found["by_type"].values()) == found[name]
    by_source = {"truncated_tokens": found["truncated_by_source"], **found["lost_by_source"]}
    for name in ("truncated_tokens", "rejected", "empty", "whitespace", "not_text", "zero_vectors", "nan_vectors"):
        assert sum(by_source.get(name, {}).values()) == found[name]


def test_what_could_not_be_embedded_is_told_apart() -> None:
    found = count([("empty_text", "a", None, 1), ("blank_text", "a", None, 1), ("encoding", "a", None, 1),
                   ("not_text", "a", "faq", 1), ("broken_json", "a", None, 1)]).total  # fmt: skip
    assert (found.empty, found.whitespace, found.not_text, found.rejected) == (1, 1, 2, 5)


def test_a_type_of_its_own_for_each_document_does_not_fill_the_receipts() -> None:
    ledgers = []
    for partition in range(3):
        ledger = Ledger()
        for i in range(100):
            ledger.document(f"type {partition} {i}")
            ledger.chunk("a.jsonl", f"type {partition} {i}", 1 + i, max_tokens=MAX)
        ledgers.append(ledger.to_json())
    found = total(ledgers)
    assert [len(each["by_type"]) for each in (*ledgers, found)] == [50] * 4
    assert (
        found["tokens"]
        == 3 * 5050
        == found["other_types"]["tokens"] + sum(c["tokens"] for c in found["by_type"].values())
    )
    assert found["other_types"]["documents"] == 250


def test_a_receipt_that_knows_no_types_counts_in_all() -> None:
    old: dict[str, Any] = {"documents": 2, "chunks": 3, "tokens": 500, "truncated_chunks": 1, "truncated_tokens": 44,
                           "empty": 1, "zero_vectors": 0, "nan_vectors": 0, "truncated_by_source": {"old.jsonl": 44}}  # fmt: skip
    found = total([old, count([("chunk", "a.jsonl", "faq", 7)]).to_json()])
    assert (found["tokens"], found["embedded_tokens"], found["empty"]) == (507, 463, 1)
    assert found["other_types"]["tokens"] == 500
    assert found["truncated_by_source"] == {"old.jsonl": 44}


def test_threads_that_count_at_once_lose_nothing() -> None:
    ledger = Ledger()

    def work(_: int) -> None:
        for _ in range(3000):
            ledger.reject("not_text", "a", "faq")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert (ledger.total.not_text, ledger.by_source["rejected"]["a"]) == (12_000, 12_000)


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_buckets_keep_order_hold_their_bound_and_are_narrow(left: int, right: int) -> None:
    assert length_bucket(left) >= left > length_bucket(left) * 0.79
    assert length_bucket(length_bucket(left)) == length_bucket(left)
    assert (length_bucket(left) <= length_bucket(right)) or left > right


def test_limits_of_usual_models_are_bounds_of_buckets() -> None:
    assert [length_bucket(limit) for limit in (128, 256, 384, 512, 8192)] == [128, 256, 384, 512, 8192]
