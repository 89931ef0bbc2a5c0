"""Which class serves which ``index.target``. Heavy clients are imported here, when chosen."""

from __future__ import annotations

from pipelines.releases import ReleaseLog
from pipelines.store import StorageSettings, open_store
from pipelines.targets.target import IndexSettings, IndexTarget


def open_target(settings: IndexSettings, root: str, storage: StorageSettings, corpus: str) -> IndexTarget:
    """Connect to the index.

    Raises:
        SettingsError: opensearch without ``index.url``.
        TargetError: nobody answers there.
    """
    log = ReleaseLog(open_store(root, storage, create=True), corpus)
    if settings.target == "opensearch":
        from pipelines.targets.on_opensearch import OpenSearchTarget

        return OpenSearchTarget(settings, log)
    from pipelines.targets.on_lancedb import LanceTarget

    return LanceTarget(settings, settings.url or f"{root.rstrip('/')}/lancedb", storage, log)
