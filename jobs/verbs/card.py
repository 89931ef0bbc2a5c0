"""The run's card: what was planned and done, what was lost, what it took and cost; as JSON and as a page."""

from __future__ import annotations

from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, select_autoescape

from jobs.session import Session, invocations
from pipelines.attempts import count_attempts
from pipelines.embed.billed import read_spent
from pipelines.manifest import read_manifest
from pipelines.plan.estimate import price, price_of_tokens
from pipelines.plan.plan import Plan
from pipelines.verify.record import newest_verification


def write_card(session: Session, plan: Plan) -> dict[str, Any]:
    """Write card.json and card.html beside the plan and return the card."""
    card = make_card(session, plan)
    folder = f"runs/{plan.run_id}"
    session.store.put(f"{folder}/card.json", orjson.dumps(card, option=orjson.OPT_INDENT_2))
    session.store.put(f"{folder}/card.html", _page(card).encode())
    return card


def make_card(session: Session, plan: Plan) -> dict[str, Any]:
    settings, manifest = session.settings, read_manifest(session.store, plan.run_id)
    stages: dict[str, float] = {}
    tokens = seconds = 0.0
    for facts in invocations(session, plan.run_id):
        stages[facts["stage"]] = stages.get(facts["stage"], 0.0) + facts["seconds"]
        if facts["stage"] == "embed":
            tokens, seconds = tokens + facts.get("tokens", 0), seconds + facts["seconds"]
    usd = price(sum(stages.values()) / 3600, settings.cost.usd_per_hour) * max(1, settings.engine.workers)
    billed = _billed(session, plan)
    begun, distinct = count_attempts(session.store, plan.run_id)
    generation = session.target.find(session.generation_name(plan.run_id))
    proof = newest_verification(session.store, settings.corpus, generation) if generation else None
    return {
        "format": 1,
        "corpus": settings.corpus,
        "run_id": plan.run_id,
        "uri": f"{session.store.uri}/runs/{plan.run_id}/card.html",
        "planned": {"partitions": len(plan.partitions), **plan.estimate},
        "notes": list(plan.notes),
        "done": manifest.totals if manifest else None,
        "content_digest": manifest.content_digest if manifest else None,
        "bytes_digest": manifest.bytes_digest if manifest else None,
        "space": plan.space.to_json(),
        "maker": plan.maker.to_json(),
        "parts_begun": begun,
        "parts_recomputed": begun - distinct,
        "seconds": {stage: round(value, 2) for stage, value in stages.items()},
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "usd": round(usd + (billed["usd"] or 0.0 if billed else 0.0), 4),
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


def _billed(session: Session, plan: Plan) -> dict[str, Any] | None:
    """What a remote embedder's service was asked for and billed by all attempts; None for backends that bill nothing."""
    if session.settings.embed.remote is None:
        return None
    spent, each = read_spent(session.store, plan.run_id), session.settings.cost.usd_per_million_tokens
    return {**spent.to_json(), "usd": None if each is None else round(price_of_tokens(spent.tokens, each), 6)}


def _page(card: dict[str, Any]) -> str:
    environment = Environment(loader=PackageLoader("jobs"), autoescape=select_autoescape())
    return environment.get_template("card.html").render(card=card)
