"""The run's card: what was planned and done, what was lost, what it took and cost; as JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from jobs.session import Session, invocations
from jobs.spent import spent
from pipelines.attempts import count_attempts
from pipelines.embed.billed import read_spent
from pipelines.embed.timing import Timings
from pipelines.ledger import BY_SOURCE, worst
from pipelines.manifest import read_manifest
from pipelines.plan.estimate import price_of_tokens
from pipelines.plan.plan import Plan
from pipelines.rejects import CAUSES
from pipelines.verify.record import newest_verification

_NONE = "\N{EN DASH}"
_TIMINGS = 2000  # read for the figures; those of a larger run are a sample
_LOSSES = {
    "truncated_tokens": "tokens cut off by the model's limit",
    "rejected": "records and chunks rejected, for any cause",
    "empty": "empty texts",
    "whitespace": "texts of nothing but whitespace",
    "not_text": "not text: binary, another encoding or type",
    "zero_vectors": "chunks whose vector is zero",
    "nan_vectors": "chunks whose vector has NaN or infinity",
}


def write_card(session: Session, plan: Plan) -> dict[str, Any]:
    """Write card.json and card.html beside the plan and return the card."""
    card = make_card(session, plan)
    folder = f"runs/{plan.run_id}"
    session.store.put(f"{folder}/card.json", orjson.dumps(card, option=orjson.OPT_INDENT_2))
    session.store.put(f"{folder}/card.html", page(card).encode())
    return card


def make_card(session: Session, plan: Plan) -> dict[str, Any]:
    """The card. ``done`` is the manifest's totals as they are, with the token ledger; ``embedding`` is explained at
    ``jobs.spent.spent``. ``usd`` is the price of all invocations of all stages, from start to end, with the workers that
    each had; what was killed without a word is not in it."""
    settings, manifest = session.settings, read_manifest(session.store, plan.run_id)
    stages: dict[str, float] = {}
    tokens = seconds = worker_s = 0.0
    for facts in invocations(session, plan.run_id):
        stages[facts["stage"]] = stages.get(facts["stage"], 0.0) + facts["seconds"]
        worker_s += facts["seconds"] * max(1, facts.get("workers", settings.engine.workers))
        if facts["stage"] == "embed":
            tokens, seconds = tokens + facts.get("tokens", 0), seconds + facts["seconds"]
    billed = _billed(session, plan)
    begun, distinct = count_attempts(session.store, plan.run_id)
    generation = session.target.find(session.generation_name(plan.run_id))
    proof = newest_verification(session.store, settings.corpus, generation) if generation else None
    timings, attempts = Timings(session.store, plan.run_id).sample(_TIMINGS)
    return {
        "format": 1,
        "corpus": settings.corpus,
        "run_id": plan.run_id,
        "uri": f"{session.store.uri}/runs/{plan.run_id}/card.html",
        "planned": {"partitions": len(plan.partitions), **plan.estimate},
        "notes": list(plan.notes),
        "done": manifest.totals if manifest else None,
        "embedding": spent(timings, attempts, settings.cost.usd_per_hour),
        "content_digest": manifest.content_digest if manifest else None,
        "bytes_digest": manifest.bytes_digest if manifest else None,
        "space": plan.space.to_json(),
        "maker": plan.maker.to_json(),
        "parts_begun": begun,
        "parts_recomputed": begun - distinct,
        "seconds": {stage: round(value, 2) for stage, value in stages.items()},
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "usd": round(worker_s / 3600 * settings.cost.usd_per_hour + (billed["usd"] or 0.0 if billed else 0.0), 4),
        "billed": billed,
        "usd_per_hour": settings.cost.usd_per_hour,
        "workers": settings.engine.workers,
        "generation": generation.name if generation else None,
        "live": generation is not None and session.target.live(settings.corpus) == generation.name,
        "gates": [
            {"name": g.name, "passed": g.passed, "found": g.found, "wanted": g.wanted, "detail": g.detail}
            for g in (proof.gates if proof else ())
        ],
    }


def page(card: Mapping[str, Any]) -> str:
    """The card as HTML in one file. Everything in it is escaped but the plots, which escape what they are given."""
    plots = {name: Markup(svg) for name, svg in _plots(card).items()}  # noqa: S704
    return (
        _environment()
        .get_template("card.html")
        .render(card=card, causes=CAUSES, types=_types(card), losses=_losses(card), plots=plots)
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("jobs"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
    )
    found.filters.update(number=_number, short=_short, usd=_usd, duration=_duration, share=_share)
    return found


def _plots(card: Mapping[str, Any]) -> dict[str, str]:
    from jobs import plots  # not before there is a card to make: matplotlib takes half a second

    ledger = card["done"]["ledger"] if card["done"] else {}
    found = {}
    if ledger.get("lengths"):
        found["lengths"] = plots.lengths(ledger, card["space"]["max_tokens"])
    if ledger.get("tokens") and ledger.get("by_type"):
        found["types"] = plots.types(ledger)
    if card["embedding"]:
        found["time"] = plots.time_spent(card["embedding"])
        if card["embedding"]["over_time"]["tokens_per_second"]:
            found["pace"] = plots.pace(card["embedding"]["over_time"])
    return found


def _types(card: Mapping[str, Any]) -> list[tuple[str, Mapping[str, int]]]:
    """Document types with their counts, those of the most tokens first, and the sum of those beyond the ledger's bound."""
    if not card["done"]:
        return []
    ledger = card["done"]["ledger"]
    named = sorted(ledger.get("by_type", {}).items(), key=lambda item: (-item[1]["tokens"], item[0]))
    rest = [("all others", ledger["other_types"])] if "other_types" in ledger else []
    return [*((name or "no type", counts) for name, counts in named), *rest]


def _losses(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was lost of which sources, where anything was."""
    if not card["done"]:
        return []
    ledger = card["done"]["ledger"]
    by_source = {"truncated_tokens": ledger["truncated_by_source"], **ledger.get("lost_by_source", {})}
    return [{"what": _LOSSES[name], "total": ledger[name], "sources": worst(by_source[name])}
            for name in BY_SOURCE if by_source.get(name)]  # fmt: skip


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"


def _short(value: float | None) -> str:
    """What fits a tile; the tables have it exactly."""
    for size, sign in ((1e9, "B"), (1e6, "M")):
        if value is not None and value >= max(size, 1e8):
            return f"{value / size:,.1f} {sign}"
    return _number(value)


def _usd(value: float | None) -> str:
    """Two figures after the first that is not zero, of small prices."""
    if value is None:
        return _NONE
    places = next((places for places in (2, 3, 4, 5) if value >= 10 ** -(places - 2)), 6)
    return f"${value:,.{places if value else 2}f}"


def _share(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.0%}" if value == 0 or value >= 0.1 else f"{value:.1%}" if value >= 0.001 else "< 0.1%"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:,.0f} ms"


def _billed(session: Session, plan: Plan) -> dict[str, Any] | None:
    """What a remote embedder's service was asked for and billed by all attempts; None for backends that bill nothing."""
    if session.settings.embed.remote is None:
        return None
    spent, each = read_spent(session.store, plan.run_id), session.settings.cost.usd_per_million_tokens
    return {**spent.to_json(), "usd": None if each is None else round(price_of_tokens(spent.tokens, each), 6)}
