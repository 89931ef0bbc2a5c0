"""Parts in half precision: half the bytes of vectors, and an index that holds exactly what they hold."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_corpus


def test_a_run_in_half_precision_is_verified_bit_for_bit_and_is_another_run(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=2, documents=40)
    runs = {}
    for dtype in ("float32", "float16"):
        conf = write_conf(tmp_path / f"{dtype}.yaml", root=f"file://{tmp_path}/root", source=f"file://{source}",
                          corpus=dtype, embed={"dtype": dtype, "dimensions": 512}, engine={"workers": 0})  # fmt: skip
        done = backhaul_here("run", conf, "--json")
        assert done.code == 0, done.err
        runs[dtype] = done.json["run_id"]
        assert backhaul_here("query", conf, "some words", "--json").json["hits"]
    assert runs["float32"] != runs["float16"]
    for dtype, width in (("float32", 4), ("float16", 2)):
        part = next((tmp_path / "root/runs" / runs[dtype] / "parts").rglob("*.parquet"))
        assert pq.read_schema(part).field("vector").type.byte_width == 512 * width
