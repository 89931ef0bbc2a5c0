"""Plan: freeze the listing, cut it into partitions, and say what the run will take. Embeds nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.session import Session, invocations
from pipelines.closed import is_closed
from pipelines.embed.backends import open_tokenizer
from pipelines.errors import GateRefused, NotFound
from pipelines.manifest import read_manifest
from pipelines.plan.estimate import (
    estimate,
    expected_parts,
    expected_rows,
    expected_tokens,
    hours,
    price,
    price_of_tokens,
)
from pipelines.plan.footers import row_group_bytes
from pipelines.plan.listing import list_source, open_source
from pipelines.plan.partitioning import plan_partitions, stable_ratio
from pipelines.plan.plan import Plan, find_run, is_open, list_runs, make_plan, read_estimate, read_plan, write_plan
from pipelines.receipts import embed_receipts


@dataclass(frozen=True, slots=True)
class Planned:
    """``how`` is "planned" (a new run), "unchanged" (nothing differs from an earlier plan) or "resumed"."""

    plan: Plan
    number: int
    how: str


def plan_corpus(session: Session) -> Planned:
    """List the source anew. If nothing differs from the newest plan, that plan it is."""
    settings = session.settings
    session.store  # noqa: B018  # a root that may not be written is told before the listing
    source, only = open_source(settings.source)
    session.say(f"listing {settings.source.uri}")
    listing = list_source(source, settings.source, only)
    sample = estimate(source, listing, settings.source, open_tokenizer(settings.embed, settings.storage))
    ratio = stable_ratio(sample.tokens_per_byte, _last_ratio(session))
    cut = plan_partitions(listing, settings.partition, settings.source, ratio, lambda one: row_group_bytes(source, one))
    rows = expected_rows(sample, settings.split)
    estimates = {
        **sample.to_json(),
        "rows": rows,
        "tokens_to_embed": expected_tokens(sample, settings.split, session.space.max_tokens),
        "parts": expected_parts(cut.tokens, rows, settings.embed.rows_per_part),
        "cut_tokens_per_byte": dict(ratio) if isinstance(ratio, Mapping) else ratio,
    }
    plan = make_plan(
        deciding=session.deciding,
        space=session.space,
        maker=session.maker,
        listing=listing.digest,
        partitions=cut.partitions,
        estimate=estimates,
        notes=[*listing.notes, *sample.notes, *cut.notes],
        is_closed=lambda run_id: is_closed(session.store, run_id),
    )
    known = {record.run_id for record in list_runs(session.store, settings.corpus)}
    record = write_plan(session.store, settings.corpus, plan)
    return Planned(plan, record.number, "unchanged" if plan.run_id in known else "planned")


def open_or_plan(session: Session, *, replan: bool = False) -> Planned:
    """The corpus's open plan when its deciding settings equal these, else a new one."""
    corpus = session.settings.corpus
    record = None if replan else find_run(session.store, corpus, session.deciding)
    if record is not None and is_open(session.store, record.run_id):
        session.say(f"resuming run {record.run_id[:12]}, planned before (--replan lists the source anew)")
        return Planned(read_plan(session.store, record.run_id), record.number, "resumed")
    return plan_corpus(session)


def describe_plan(session: Session, planned: Planned) -> dict[str, Any]:
    """What would be done, what is already done, and the price of the rest."""
    plan, settings = planned.plan, session.settings
    pending = plan.partitions.pending(embed_receipts(session.store, plan.run_id).committed())
    share = len(pending) / len(plan.partitions) if plan.partitions else 0.0
    rate = measured_rate(session) or settings.cost.tokens_per_second
    workers = max(1, settings.engine.workers)
    tokens = round(plan.estimate["tokens_to_embed"] * share)
    time_h = hours(tokens, rate * workers)
    usd_tokens = price_of_tokens(tokens, settings.cost.usd_per_million_tokens) if settings.embed.remote else 0.0
    return {
        "run_id": plan.run_id,
        "number": planned.number,
        "how": planned.how,
        "partitions": len(plan.partitions),
        "objects": plan.partitions.objects,
        "documents_estimated": plan.estimate["documents"],
        "tokens_estimated": plan.estimate["tokens_to_embed"],
        "parts_expected": plan.estimate["parts"],
        "embedded_partitions": len(plan.partitions) - len(pending),
        "manifest": read_manifest(session.store, plan.run_id) is not None,
        "tokens_per_second": round(rate, 1),
        "hours_estimated": round(time_h, 4),
        "usd_estimated": round(price(time_h, settings.cost.usd_per_hour) * workers + usd_tokens, 4),
        "usd_of_tokens_estimated": round(usd_tokens, 6) if settings.embed.remote else None,
        "space": plan.space.to_json(),
        "space_fingerprint": plan.space.fingerprint,
        "notes": [*plan.notes, *_of_prices(session)],
    }


def _of_prices(session: Session) -> list[str]:
    settings = session.settings
    if settings.embed.remote is None or settings.cost.usd_per_million_tokens is not None:
        return []
    return [
        "the price leaves out what the embedding service bills: set cost.usd_per_million_tokens (0 where it bills none)"
    ]


def measured_rate(session: Session) -> float | None:
    """Tokens per second of one worker, from the newest embedding of this corpus with the same Maker."""
    for record in reversed(list_runs(session.store, session.settings.corpus)):
        for facts in reversed(invocations(session, record.run_id)):
            same = facts.get("maker") == session.maker.to_json()
            if facts["stage"] == "embed" and same and facts.get("tokens", 0) > 10_000 and facts["seconds"] > 1:
                return float(facts["tokens"] / facts["seconds"] / max(1, facts["workers"]))
    return None


def _last_ratio(session: Session) -> dict[str, float] | None:
    """The figure that the corpus's newest plan was cut by: keeping it keeps the cuts."""
    records = list_runs(session.store, session.settings.corpus)
    if not records:
        return None
    try:
        ratio: dict[str, float] | None = read_estimate(session.store, records[-1].run_id).get("cut_tokens_per_byte")
    except (NotFound, GateRefused):  # lost, damaged or of a newer format: --replan is the way out of that
        return None
    return ratio
