"""Whether a generation on OpenSearch is exactly what its run's manifest says. Knows no command and no trouble."""

from __future__ import annotations

from typing import Any

from jobs.session import Session
from pipelines.load import must_read_manifest
from pipelines.manifest import read_rows
from pipelines.parts import vectors_of
from tests.targets.opensearch_case import send


def differences(session: Session, run_id: str, name: str, node: str) -> list[str]:
    """Of the generation from the manifest, row by row and bit by bit, and of its settings from the profile."""
    wanted: dict[str, Any] = {}
    found: list[tuple[str, Any]] = []
    for entry in must_read_manifest(session.store, run_id).entries:
        for _, table in read_rows(session.store, entry):
            digests = (digest.hex() for digest in table["row_digest"].to_pylist())
            bits = (vector.tobytes() for vector in vectors_of(table))
            wanted |= dict(zip(table["id"].to_pylist(), zip(digests, bits, strict=True), strict=True))
        for page in session.target.scan(name, entry.partition):
            found += [(row["id"], (row["row_digest"], vector.tobytes()))
                      for row, vector in zip(page.rows, page.vectors, strict=True)]  # fmt: skip
    wrong = []
    if dict(found) != wanted or len(found) != len(wanted) or session.target.count(name) != len(wanted):
        wrong.append(f"{len(found)} rows, {len(set(dict(found)) & set(wanted))} of {len(wanted)} wanted ones, "
                     f"{sum(wanted.get(row) != held for row, held in found)} altered or strange")  # fmt: skip
    settings = send(node, "GET", f"/{name}/_settings")[name]["settings"]["index"]
    if "refresh_interval" in settings or settings["number_of_replicas"] != str(session.settings.index.replicas):
        wrong.append(f"the profile is not restored: {settings}")
    shards = send(node, "GET", f"/{name}/_segments")["indices"][name]["shards"].values()
    segments = [copy["num_search_segments"] for copies in shards for copy in copies]
    if set(segments) != {1}:
        wrong.append(f"its shards have {segments} segments")
    return wrong
