"""A node that dies in the middle of a load and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa

from tests.fixtures.opensearch import Node
from tests.targets.opensearch_case import Case, chunks, table


def test_a_load_outlives_the_node_and_ends_exact(private_opensearch: Node) -> None:
    node = private_opensearch
    case = Case(node.url)
    case.create()
    target = case.target(deadline_s=120, max_bulk_bytes=1 << 16)
    returning = threading.Thread(target=node.start)

    def batches() -> Iterator[pa.Table]:
        for first in range(0, 4_000, 100):
            if first == 2_000:
                node.kill()
                returning.start()
            yield table(chunks(first, first + 100), first=first)

    target.begin_load(case.name)
    try:
        loaded = target.load(case.name, batches())
    finally:
        returning.join()
    target.finish_load(case.name)
    assert (loaded.rows, loaded.dead) == (4_000, ())
    assert target.count(case.name) == 4_000
    assert case.ids() == {each.id for each in chunks(0, 4_000)}
