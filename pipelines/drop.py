"""Drop one generation's index, and the records that are of that index alone. Its run, parts and manifest stay."""

from __future__ import annotations

from pipelines.errors import TargetError
from pipelines.receipts import load_receipts
from pipelines.store import Store
from pipelines.targets.target import Generation, IndexTarget
from pipelines.verify.record import verifications_folder


def drop_index(store: Store, target: IndexTarget, corpus: str, generation: Generation) -> None:
    """A mark says first that its records are to follow it: where this is killed in between, ``gc`` finds them by it.

    Raises:
        TargetError: it is live.
    """
    run_id, name = generation.meta.run_id, generation.name
    mark = f"{load_receipts(store, run_id, name, generation.uuid).folder}/dropped/mark.json"
    store.put(mark, b"{}")
    try:
        target.drop(name)
    except TargetError:
        store.delete([mark])
        raise
    forget_index(store, corpus, run_id, name, generation.uuid)


def forget_index(store: Store, corpus: str, run_id: str, name: str, uuid: str) -> None:
    """Delete what was kept of an index that is gone: receipts, dead letters, leases, verifications; the mark last."""
    receipts = load_receipts(store, run_id, name, uuid)
    folders = (receipts.leases, receipts.on_demand, f"runs/{run_id}/redrive/{name}/{uuid}",
               verifications_folder(corpus, name, uuid), receipts.folder)  # fmt: skip
    for folder in folders:
        keys = [found.key for found in store.list(f"{folder.rstrip('/')}/")]
        store.delete(sorted(keys, key=lambda key: "/dropped/" in key))
