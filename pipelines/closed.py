"""Closed runs: a mark in the place of the manifest, so that of completing a run and closing it only one can happen.

A closed run is never resumed, whoever still works at it; planning the same again makes another run.
"""

from __future__ import annotations

from pipelines.digest import FORMAT, canonical_json
from pipelines.errors import NotFound
from pipelines.store import Created, Store

MARK = canonical_json({"closed": True, "format": FORMAT})


def manifest_key(run_id: str) -> str:
    return f"runs/{run_id}/manifest.json"


def close_run(store: Store, run_id: str) -> bool:
    """Close a run that has no manifest; False when it has one."""
    return store.create(manifest_key(run_id), MARK) is Created.WON


def close_completed_run(store: Store, run_id: str) -> None:
    """In place of the manifest of a run that nothing reaches: parts that are gone must not seem to be there."""
    store.put(manifest_key(run_id), MARK)


def is_closed(store: Store, run_id: str) -> bool:
    """Reads no manifest to its end: one of a million partitions is large."""
    try:
        return store.head(manifest_key(run_id)).size == len(MARK) and store.get(manifest_key(run_id)) == MARK
    except NotFound:
        return False
