"""Generations: list them, and drop one that is not live."""

from __future__ import annotations

from typing import Any

from jobs.session import Session
from pipelines.drop import drop_index
from pipelines.errors import SettingsError
from pipelines.verify.record import newest_verification


def list_generations(session: Session) -> dict[str, Any]:
    """Every generation of the corpus, which one is live or set for loading, and whether it was proved. ``rows`` null: some
    of its shards do not answer."""
    corpus = session.settings.corpus
    live, rows = session.target.live(corpus), []
    for generation in session.target.generations(corpus):
        proof = newest_verification(session.store, corpus, generation)
        rows.append({"generation": generation.name, "run_id": generation.meta.run_id, "rows": generation.rows,
                     "live": generation.name == live, "loading": generation.loading, "verified": None if proof is None else proof.passed})  # fmt: skip
    return {"corpus": corpus, "live": live, "generations": rows}


def drop_generation(session: Session, name: str) -> dict[str, Any]:
    """Drop one generation of this corpus; the live one is refused."""
    found = {generation.name: generation for generation in session.target.generations(session.settings.corpus)}
    if name not in found:
        raise SettingsError(
            f"corpus {session.settings.corpus} has no generation {name!r}; it has {', '.join(found) or 'none'}"
        )
    if name == session.target.live(session.settings.corpus):
        raise SettingsError(f"generation {name} is live; release or roll back to another one first")
    drop_index(session.store, session.target, session.settings.corpus, found[name])
    return {"dropped": name}
