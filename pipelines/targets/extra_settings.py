"""Index settings that users write themselves: which are theirs to write. Sends nothing, checks no value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ANALYSIS = ("analyzer", "tokenizer", "filter", "char_filter")
# Each with what speaks for it instead, or why it must stay as it is. A name covers everything below it.
_OWNED = {
    "number_of_shards": "set index.shards",
    "number_of_replicas": "set index.replicas",
    "auto_expand_replicas": "set index.replicas",
    "refresh_interval": "a load switches it off and puts the cluster's own back",
    "analysis": "set index.analysis",
    "knn.derived_source": "set index.derived_source",
    "knn.remote_index_build.enabled": "set index.gpu_build",
    "knn.advanced.approximate_threshold": "the load profile sets it",
    "knn": "an index of vectors needs it",
    "translog.durability": "a load receipt means that the rows are durable",
    "default_pipeline": "an ingest pipeline would alter rows",
    "final_pipeline": "an ingest pipeline would alter rows",
    "blocks": "a blocked index cannot be loaded",
    "uuid": "the cluster sets it",
    "version": "the cluster sets it",
    "creation_date": "the cluster sets it",
    "provided_name": "the cluster sets it",
}
_KNN_OF_USERS = ("knn.algo_param", "knn.advanced", "knn.remote_index_build", "knn.memory_optimized_search")


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each leaf: OpenSearch takes nested and dotted settings alike, and gives back either."""
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def extra_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names below ``index``."""
    return {name.removeprefix("index."): value for name, value in flat(settings)}


def check_analysis(analysis: Mapping[str, Any]) -> None:
    """Raises ValueError for what OpenSearch would take for a setting of its own, or skip."""
    for kind, made in analysis.items():
        if kind not in _ANALYSIS:
            raise ValueError(f"analysis.{kind} is not known; write {', '.join(_ANALYSIS)}")
        if not isinstance(made, Mapping) or not all(isinstance(each, Mapping) for each in made.values()):
            raise ValueError(f"analysis.{kind} must map names to definitions, such as {{mine: {{type: custom, …}}}}")


def check_extra(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for a setting that is not the user's to write."""
    for name in extra_settings(settings):
        owner = next((owned for owned in _OWNED if name == owned or name.startswith(f"{owned}.")), None)
        if owner == "knn" and name.startswith(_KNN_OF_USERS):
            continue
        if owner is not None:
            raise ValueError(f"settings.{name} is not yours to set: {_OWNED[owner]}")
