"""Release and rollback: move the alias by compare-and-swap, after the gates or back."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from jobs.session import Session
from jobs.verbs.card import write_card
from jobs.verbs.load import settle_load
from pipelines.errors import SettingsError
from pipelines.release import find_rollback, release, rollback
from pipelines.targets.target import Generation

log = logging.getLogger(__name__)


def find_generation(session: Session, *, run_id: str | None, name: str | None) -> Generation:
    """``--generation``, else the generation of the run addressed by ``--run`` or by the settings.

    Raises:
        SettingsError: it does not exist, with the command that makes it.
    """
    name = name or session.generation_name(session.plan(run_id).run_id)
    found = session.target.find(name)
    if found is None or found.meta.corpus != session.settings.corpus:
        raise SettingsError(f"corpus {session.settings.corpus} has no generation {name}; `backhaul load CONF` makes it")
    return found


def release_generation(session: Session, generation: Generation, *, force: bool) -> dict[str, Any]:
    session.refuse_array("release")
    generation = settle_load(session, generation)
    released = release(session.store, session.target, session.log, session.settings.corpus, generation, force=force)
    try:
        write_card(session, session.plan(generation.meta.run_id))
    except Exception:  # the alias has moved: whatever is wrong with a page must not make that look undone
        log.exception("%s is released, but the card of its run could not be written", generation.name)
    return asdict(released)


def rollback_corpus(session: Session, to: str | None) -> dict[str, Any]:
    target, log, corpus = session.target, session.log, session.settings.corpus
    found = settle_load(session, find_rollback(target, log, corpus, to))
    return asdict(rollback(target, log, corpus, found.name))
