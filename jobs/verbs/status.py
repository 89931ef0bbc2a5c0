"""Status, failures and generations: what is done, what is not, and why. Changes nothing."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson

from jobs.session import Session
from jobs.verbs.embed import read_receipts
from pipelines.checkpoint import count_attempts
from pipelines.errors import SettingsError, TargetError
from pipelines.load import loads_finished
from pipelines.manifest import read_manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import embed_receipts, load_receipts
from pipelines.rejects import CAUSES, read_rejects
from pipelines.verify import newest_verification

_EXAMPLES = 3


def run_status(session: Session, plan: Plan) -> dict[str, Any]:
    """Counts by stage, both digests and what is live. An index that cannot be reached hides no other figure."""
    manifest = read_manifest(session.store, plan.run_id)
    total = len(plan.partitions)
    begun, distinct = count_attempts(session.store, plan.run_id)
    try:
        index, error = _index_status(session, plan), None
    except TargetError as unreachable:
        index, error = {"load": None, "verify": None, "generation": None, "live": None}, str(unreachable)
    return {
        "corpus": session.settings.corpus,
        "run_id": plan.run_id,
        "content_digest": manifest.content_digest if manifest else None,
        "bytes_digest": manifest.bytes_digest if manifest else None,
        "rows": manifest.rows if manifest else None,
        "stages": {
            "embed": {"done": len(embed_receipts(session.store, plan.run_id).committed()), "total": total},
            "load": index["load"],
            "verify": index["verify"],
        },
        "parts_begun": begun,
        "parts_recomputed": begun - distinct,
        "failures": sum(1 for _ in session.store.list(f"runs/{plan.run_id}/failures/")),
        "generation": index["generation"],
        "live": index["live"],
        "index_error": error,
    }


def _index_status(session: Session, plan: Plan) -> dict[str, Any]:
    corpus = session.settings.corpus
    generation = session.target.find(session.generation_name(plan.run_id))
    loaded, proof, finished = 0, None, 0
    if generation:
        receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
        loaded, finished = len(receipts.committed()), loads_finished(session.store, receipts)
        proof = newest_verification(session.store, corpus, generation)
    live = session.target.live(corpus)
    found = session.target.find(live) if live else None
    return {
        "load": {"done": loaded, "total": len(plan.partitions), "finished": bool(finished)},
        "verify": None if proof is None else {"passed": proof.passed, "current": proof.load == finished},
        "generation": generation.name if generation else None,
        "live": {"generation": live, "run_id": found.meta.run_id} if live and found else None,
    }


def run_failures(session: Session, plan: Plan) -> dict[str, Any]:
    """Failed partitions and rejected records, grouped by cause, each with examples and the next command."""
    partitions: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for found in session.store.list(f"runs/{plan.run_id}/failures/"):
        record = orjson.loads(session.store.get(found.key))
        partitions[record["stage"], record["cause"]].append(record)
    return {
        "run_id": plan.run_id,
        "partitions": [
            {"stage": stage, "cause": cause, "count": len(records), "examples": records[:_EXAMPLES],
             "next": f"backhaul retry CONF --cause '{cause}'"}
            for (stage, cause), records in sorted(partitions.items())
        ],
        "rejects": _group_rejects(session, plan),
    }  # fmt: skip


def failed_partitions(session: Session, plan: Plan, *, cause: str | None, partition: str | None) -> dict[str, set[str]]:
    """Partition ids by stage that failed for ``cause`` (None: any), or are ``partition``."""
    chosen: dict[str, set[str]] = defaultdict(set)
    for found in session.store.list(f"runs/{plan.run_id}/failures/"):
        record = orjson.loads(session.store.get(found.key))
        if cause in (None, record["cause"]) and (partition is None or record["partition"].startswith(partition)):
            chosen[record["stage"]].add(record["partition"])
    return chosen


def list_generations(session: Session) -> dict[str, Any]:
    """Every generation of the corpus, which one is live, and whether it was proved."""
    corpus = session.settings.corpus
    live, rows = session.target.live(corpus), []
    for generation in session.target.generations(corpus):
        proof = newest_verification(session.store, corpus, generation)
        rows.append({"generation": generation.name, "run_id": generation.meta.run_id, "rows": generation.rows,
                     "live": generation.name == live, "verified": None if proof is None else proof.passed})  # fmt: skip
    return {"corpus": corpus, "live": live, "generations": rows}


def drop_generation(session: Session, name: str) -> dict[str, Any]:
    """Drop one generation of this corpus; the live one is refused."""
    names = [generation.name for generation in session.target.generations(session.settings.corpus)]
    if name not in names:
        raise SettingsError(
            f"corpus {session.settings.corpus} has no generation {name!r}; it has {', '.join(names) or 'none'}"
        )
    if name == session.target.live(session.settings.corpus):
        raise SettingsError(f"generation {name} is live; release or roll back to another one first")
    session.target.drop(name)
    return {"dropped": name}


def _group_rejects(session: Session, plan: Plan) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    examples: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    receipts = [("embed", receipt) for receipt in read_receipts(session, plan).values()]
    receipts += [("load", receipt) for receipt in _load_receipts(session, plan)]
    for stage, receipt in receipts:
        for cause, count in receipt["rejects"]["counts"].items():
            counts[stage, cause] += count
        wanted = [cause for cause in receipt["rejects"]["counts"] if len(examples[stage, cause]) < _EXAMPLES]
        if wanted:
            for reject in read_rejects(session.store, plan.run_id, receipt["rejects"]["file"]):
                if reject.cause in wanted and len(examples[stage, reject.cause]) < _EXAMPLES:
                    examples[stage, reject.cause].append(
                        {"at": reject.position, "document_id": reject.document_id, "reason": reject.reason}
                    )
    return [
        {"stage": stage, "cause": cause, "count": count, "meaning": CAUSES.get(cause, "refused by the index"),
         "examples": examples[stage, cause]}
        for (stage, cause), count in sorted(counts.items(), key=lambda item: -item[1])
    ]  # fmt: skip


def _load_receipts(session: Session, plan: Plan) -> list[dict[str, Any]]:
    """Those of the run's generation; none, with a word, where the index cannot be asked which that is."""
    try:
        generation = session.target.find(session.generation_name(plan.run_id))
    except TargetError as error:
        session.say(f"what the index refused is left out: {error}")
        return []
    if generation is None:
        return []
    loads = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    return [found for partition in sorted(loads.committed()) if (found := loads.find(partition))]
