"""What a request asks, in the library's words: filters, how to search, and what makes it the same question. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.service.auth import Caller
from jobs.service.limits import LimitSettings
from jobs.service.problems import Refusal
from jobs.service.requests import Bounds, SearchRequest, Value
from pipelines.digest import digest_of
from pipelines.embed.embedder import Vectors
from pipelines.search import How
from pipelines.targets.filters import Filter


def filters_of(asked: SearchRequest) -> tuple[Filter, ...]:
    return tuple(_filter(name, condition) for name, condition in asked.filter.items())


def how_of(asked: SearchRequest, filters: tuple[Filter, ...], skip: int, depth: int) -> How:
    """Of the page after ``skip`` hits; all pages are cut from the same ``depth`` candidates."""
    return How(mode=asked.mode, k=min(asked.k, depth - skip), skip=skip, exact=asked.exact, filters=filters,
               by_document=asked.group_by_document, fusion=asked.fusion.method, candidates=depth,
               lexical_weight=asked.fusion.lexical_weight, with_vectors=asked.with_vectors)  # fmt: skip


def digest_of_question(asked: SearchRequest, caller: Caller) -> str:
    """Of all that decides which hits there are and their order, the asker's tenant included."""
    decides = asked.model_dump_json(exclude={"k", "cursor", "explain", "highlight", "generation"})
    return digest_of([caller.tenant, decides])


def must_be_small(asked: SearchRequest, filters: Sequence[Filter], limits: LimitSettings) -> None:
    """Raises Refusal over a limit of the settings."""
    said = ""
    if asked.k > limits.max_k:
        said = f"k is {asked.k}; this service gives at most {limits.max_k} hits at once, and cursors"
    elif asked.query and len(asked.query) > limits.max_query_characters:
        said = f"query has {len(asked.query)} characters; at most {limits.max_query_characters} are taken"
    elif len(asked.filter) > limits.max_filters or any(len(each.any_of) > limits.max_values for each in filters):
        said = f"filter has more than {limits.max_filters} fields, or one more than {limits.max_values} values"
    if said:
        raise Refusal("bad_request", said)


def given_vector(components: Sequence[float], dimensions: int, generation: str) -> Vectors:
    """float32[1, dimensions]. Raises Refusal where it is none that anything could be near to."""
    if len(components) != dimensions:
        raise Refusal(
            "bad_request", f"vector has {len(components)} components; generation {generation} takes {dimensions}"
        )
    with np.errstate(over="ignore"):
        given = np.array([components], dtype=np.float32)
    if not np.isfinite(given).all() or not given.any():
        raise Refusal("bad_request", "vector has a component that is no float32, or is zero; nothing is near it")
    return given


def _filter(name: str, condition: Value | list[Value] | Bounds) -> Filter:
    if isinstance(condition, Bounds):
        low, high = (None if bound is None else _spelled(bound) for bound in (condition.from_, condition.to))
        return Filter(name, at_least=low, at_most=high)
    values = condition if isinstance(condition, list) else [condition]
    return Filter(name, tuple(map(_spelled, values)))


def _spelled(value: Value) -> str:
    """As a field's type has it: JSON's true is the text true."""
    return str(value).lower() if isinstance(value, bool) else str(value)
