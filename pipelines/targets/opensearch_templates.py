"""Index templates of the cluster's users that would take part in making an index of ours. Changes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pipelines.targets.extra_settings import flat
from pipelines.targets.opensearch_cluster import Cluster, segment
from pipelines.targets.opensearch_failures import Refused, may_pass


@dataclass(frozen=True, slots=True)
class Template:
    """What our own request says wins; the rest of a template is added to the index."""

    name: str
    adds: tuple[str, ...]

    def __str__(self) -> str:
        return f"index template {self.name!r} matches and adds {', '.join(self.adds) or 'nothing'}"


def templates_on(cluster: Cluster, name: str) -> list[Template] | None:
    """Those that an index of this name would be made with; None where this user may not ask.

    Of composable ones the highest priority applies alone; only without any do the older kind apply, all that match.
    """
    try:
        composable = cluster.call("GET", "/_index_template").get("index_templates", [])
        older = cluster.call("GET", "/_template")
        matching = [each for each in composable if _matches(each["index_template"], name)]
        if matching:
            first = max(matching, key=lambda each: each["index_template"].get("priority", 0))
            # Simulated, because a template is composed of others.
            made = cluster.call("POST", f"/_index_template/_simulate_index/{segment(name)}").get("template", {})
            return [Template(first["name"], _adds(made))]
        return [Template(key, _adds(each)) for key, each in sorted(older.items()) if _matches(each, name)]
    except Refused as error:
        if may_pass(error.failure):
            raise
        return None


def _matches(template: Mapping[str, Any], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in template.get("index_patterns", []))


def _adds(made: Mapping[str, Any]) -> tuple[str, ...]:
    mappings = made.get("mappings", {})
    fields = [f"field {field}" for field in mappings.get("properties", {})]
    rest = [f"mapping {key}" for key in mappings if key != "properties"]
    settings = [f"setting {key}={value}" for key, value in flat(made.get("settings", {}))]
    return (*fields, *rest, *settings, *(f"alias {alias}" for alias in made.get("aliases", {})))
