"""The index body of a generation, and what an existing index must look like to be one. Sends nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipelines.digest import check_format
from pipelines.errors import TargetError
from pipelines.space import Space
from pipelines.targets.extra_settings import extra_settings, flat
from pipelines.targets.target import IndexSettings, Meta

META_KEY = "backhaul"
VECTOR = "vector"
# knn_score and the mapping must agree. Cosine also holds for normalised vectors, where inner product would
# take a zero vector in silence.
SPACE_TYPE = "cosinesimil"
_MOST_FOR_SPEED = 16
_LEAST_ROWS = 5_000
_MOST_BYTES = 30 << 30
_COPIES_OF_A_VECTOR = 2  # in the field's own file, and in the graph and the stored source together
_BYTES_OF_TEXT = 2_000
# Of a load profile: these change while a generation lives.
_PASSING = ("refresh_interval", "number_of_replicas", "knn.advanced.approximate_threshold")
_INDEXED_CHARACTERS = 8191  # a term holds 32,766 bytes at most; UTF-8 needs up to four per character


REFRESH_OFF = "-1"

# OpenSearch's types of metadata fields. A double compares whole numbers exactly up to 2^53; what is returned is exact.
_TYPES: dict[str, dict[str, Any]] = {
    "keyword": {"type": "keyword", "ignore_above": _INDEXED_CHARACTERS},
    "number": {"type": "double"},
    "date": {"type": "date", "format": "strict_date_optional_time"},
    "boolean": {"type": "boolean"},
}


def load_profile(settings: IndexSettings) -> dict[str, Any]:
    """What an index has while it is loaded: a refresh or a replica builds graphs that are built again later. Lucene
    builds its graphs all the same; faiss none, until the threshold is put back."""
    faiss = {"knn.advanced.approximate_threshold": "-1"} if settings.engine == "faiss" else {}
    return {"refresh_interval": REFRESH_OFF, "number_of_replicas": 0, **faiss}


def search_profile(settings: IndexSettings) -> dict[str, Any]:
    """What it has afterwards; null is the cluster's own default."""
    faiss = {"knn.advanced.approximate_threshold": None} if settings.engine == "faiss" else {}
    return {"refresh_interval": None, "number_of_replicas": settings.replicas, **faiss}


def first_release_alias(name: str) -> str:
    """A token that a generation is made with; a first release takes it, so it happens at most once."""
    return f"{name}.unreleased"


def shards_for(rows: int, dimensions: int, processors: int) -> int:
    """How many shards a generation of float32 vectors is laid out in.

    Each shard builds its graph on its own, in one thread while it is loaded, so that two a processor keep all of them
    busy; more than ``_MOST_FOR_SPEED`` cost every search more than a load gains, and fewer than ``_LEAST_ROWS`` rows
    are not worth a shard. AWS advises 10 to 30 GiB a shard where searches should be fast (OpenSearch Service, "Choosing
    the number of shards").
    """
    by_size = -(-rows * (dimensions * 4 * _COPIES_OF_A_VECTOR + _BYTES_OF_TEXT) // _MOST_BYTES)
    by_speed = min(2 * processors, _MOST_FOR_SPEED, rows // _LEAST_ROWS)
    return max(1, by_size, by_speed)


def index_body(settings: IndexSettings, name: str, meta: Meta, dimensions: int, shards: int | None) -> dict[str, Any]:
    """``shards`` None: however many there are; for checking only."""
    return {
        "aliases": {first_release_alias(name): {}},
        "settings": {"index": {
            **_lasting(settings, shards),
            **load_profile(settings),
        }},
        "mappings": {
            "dynamic": "strict",
            "_meta": {META_KEY: asdict(meta)},
            "properties": _properties(settings, meta, dimensions),
        },
    }  # fmt: skip


def _lasting(settings: IndexSettings, shards: int | None) -> dict[str, Any]:
    """Settings that stay as the index was made with them."""
    asked: dict[str, Any] = {"knn": True}
    if shards:
        asked["number_of_shards"] = shards
    if settings.gpu_build:
        asked["knn.remote_index_build.enabled"] = True
    if settings.derived_source is not None:
        asked["knn.derived_source.enabled"] = settings.derived_source
    if settings.analysis:
        asked["analysis"] = settings.analysis
    return asked | extra_settings(settings.settings)


def _vector_field(settings: IndexSettings, dimensions: int) -> dict[str, Any]:
    field: dict[str, Any] = {
        "type": "knn_vector",
        "dimension": dimensions,
        # The engine is always named: the default one ends the whole node where its native libraries are missing.
        "method": {"name": "hnsw", "engine": settings.engine, "space_type": SPACE_TYPE,
                   "parameters": {"m": settings.m, "ef_construction": settings.ef_construction}},
    }  # fmt: skip
    if settings.vectors == "byte":
        field["data_type"] = "byte"
    if settings.on_disk:
        field["mode"] = "on_disk"
    if settings.times_smaller > 1 or settings.on_disk:
        # Half precision too: how the encoder is spelled has changed with OpenSearch 3.6, this has not.
        field["compression_level"] = f"{settings.times_smaller}x"
    return field


def _properties(settings: IndexSettings, meta: Meta, dimensions: int) -> dict[str, Any]:
    keyword = {"type": "keyword"}
    analyzed = {"type": "text", "analyzer": settings.analyzer}
    kept = {"type": "keyword", "index": False, "doc_values": False}  # returned, never searched
    counted = {"type": "integer", "index": False}
    return {
        "id": keyword,
        "document_id": keyword,
        "tenant": keyword,
        "uri": kept,
        "title": analyzed,
        "doc_type": keyword,
        "date": {"type": "date", "format": "strict_date_optional_time"},
        "ordinal": {"type": "integer"},
        "text": analyzed,
        "start": {"type": "long", "index": False},
        "end": {"type": "long", "index": False},
        "tokens": counted,
        "partition": keyword,
        "number": {"type": "long"},
        "row_digest": {"type": "keyword", "index": False},
        "metadata": {"type": "object", "dynamic": "strict", "properties": {
            name: _TYPES[meta.metadata_types.get(name, "keyword")] for name in meta.metadata_fields}},
        VECTOR: _vector_field(settings, dimensions),
    }  # fmt: skip


def meta_of(mappings: dict[str, Any], what: str) -> Meta | None:
    """What the index says of itself; None when Backhaul did not make it.

    Raises:
        NewerFormat: a later version of Backhaul made it.
    """
    value = mappings.get("_meta", {}).get(META_KEY)
    if value is None:
        return None
    check_format(value.get("format"), what)
    return Meta(value["corpus"], value["run_id"], value["space"], tuple(value["metadata_fields"]),
                value.get("metadata_types", {}), value["format"])  # fmt: skip


def must_have_meta(found: Meta | None, wanted: Meta, what: str) -> None:
    """Raises SpaceMismatch for another Space, TargetError for any other difference."""
    if found is None:
        raise TargetError(f"{what} was not made by Backhaul; choose another corpus name, or delete that index")
    if found.space != wanted.space:
        Space(**wanted.space).must_equal(Space(**found.space), what)
    mine, theirs = asdict(wanted), asdict(found)
    if wrong := [f"{name}: {mine[name]!r} here, {theirs[name]!r} there" for name in mine if mine[name] != theirs[name]]:
        raise TargetError(f"{what} belongs to something else: {'; '.join(wrong)}. "
                          "Run `backhaul drop CONF` on it, or choose another corpus name.")  # fmt: skip


def must_have_shape(index: dict[str, Any], body: dict[str, Any], what: str) -> None:
    """Raises TargetError naming each difference; a vector field silently mapped as float is a known accident."""
    if wrong := shape_differences(index, body):
        raise TargetError(f"{what} has another mapping than the settings ask for: {'; '.join(wrong)}. "
                          "Drop it with `backhaul drop CONF`, or put the settings back.")  # fmt: skip


def shape_differences(index: dict[str, Any], body: dict[str, Any]) -> list[str]:
    """None where everything that was asked for is there with the same value, and no field besides."""
    mappings, settings = index["mappings"], index["settings"]["index"]
    wanted = body["mappings"]["properties"]
    wrong = _differences(wanted, mappings.get("properties", {}), "")
    wrong += [f"{name}: absent here, present there" for name in mappings.get("properties", {}) if name not in wanted]
    wrong += _differences({"dynamic": "strict"}, mappings, "")
    asked = {name: value for name, value in flat(body["settings"]["index"]) if name not in _PASSING}
    return wrong + _differences(asked, dict(flat(settings)), "")


def _differences(wanted: dict[str, Any], found: dict[str, Any], path: str) -> list[str]:
    wrong = []
    for name, value in wanted.items():
        here = f"{path}{name}"
        other = found.get(name)
        if (name, value) == ("type", "object"):  # not given back where the object has properties
            continue
        if isinstance(value, dict):
            wrong += _differences(value, other if isinstance(other, dict) else {}, f"{here}.")
        elif _spelled(value) != _spelled(other):
            wrong.append(f"{here}: {value!r} here, {other!r} there")
    return wrong


def _spelled(value: Any) -> Any:  # Any: JSON; index settings come back as strings, whatever was sent
    return [_spelled(each) for each in value] if isinstance(value, list) else str(value).lower()
