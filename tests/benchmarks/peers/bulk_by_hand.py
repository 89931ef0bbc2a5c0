"""opensearch-py's own helpers over the parts of a run. ``PARTS URL INDEX BODY HELPER TUNED [key=value …]``.

PARTS is a folder of Parquet parts, BODY a file with the mapping and the settings to make the index with. TUNED ``no``:
index defaults. ``yes``: as OpenSearch documents for fast indexing ("Tuning your cluster for indexing speed" and the k-NN
plugin's performance tuning): no refresh and no replicas during the load, restored afterwards. Either way the index is
search-ready at the end: refreshed, merged to one segment a shard, warm.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from opensearchpy import OpenSearch, helpers

parts, url, index, body, helper, tuned, *words = sys.argv[1:]
options = {key: int(value) for key, _, value in (word.partition("=") for word in words)}
client = OpenSearch(url, timeout=600)
made = json.loads(Path(body).read_bytes())
if tuned == "yes":
    made["settings"]["index"] |= {"refresh_interval": "-1", "number_of_replicas": 0}
client.indices.create(index=index, body=made)


def actions() -> Iterator[dict[str, Any]]:
    width = made["mappings"]["properties"]["vector"]["dimension"]
    for path in sorted(Path(parts).rglob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(1024):
            rows = batch.drop_columns(["input_digest", "position"]).to_pylist()
            for number, row in enumerate(rows):
                row["vector"] = memoryview(row["vector"]).cast("f").tolist()
                assert len(row["vector"]) == width
                row["metadata"] = json.loads(row["metadata"])
                row["row_digest"] = row["row_digest"].hex()
                row |= {"partition": path.parent.name, "number": number}
                yield {"_index": index, "_id": row["id"], "_source": row}


load = {"streaming": helpers.streaming_bulk, "parallel": helpers.parallel_bulk}[helper]
for done, _ in load(client, actions(), **options):
    assert done
client.indices.put_settings(index=index, body={"index": {"refresh_interval": None}})
client.indices.refresh(index=index)
client.indices.forcemerge(index=index, max_num_segments=1)
client.indices.refresh(index=index)
client.transport.perform_request("GET", f"/_plugins/_knn/warmup/{index}")
