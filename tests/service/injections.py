"""Texts, bodies and headers of those who would like the index to run something else than a search. Seeded, more than a
thousand; the shape of what reaches the index must not depend on them."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

_DSL = [
    '{"match_all":{}}', '{"query":{"match_all":{}}}', '{"script":{"source":"Runtime.getRuntime()"}}', '"}},{"match_all":{}},{"x":{"y":"',
    '{"size":10000}', '{"terms":{"tenant":{"index":"users","id":"1","path":"x"}}}', '\n{"index":"other"}\n{"query":{"match_all":{}}}',
    '\r\n{"delete":{"_index":"x"}}\r\n', '{"wildcard":{"tenant":"*"}}', '{"knn":{"vector":{"vector":[1],"k":10000}}}',
    '", "size": 10000, "x": "', '{"aggs":{"all":{"terms":{"field":"tenant"}}}}', "{{#toJson}}tenant{{/toJson}}", "${script:js:1}",
]  # fmt: skip
_LUCENE = [
    "*:*", "tenant:*", "tenant:blue", "_exists_:tenant", "a OR 1=1", "a AND NOT tenant:acme", "text:/.*/", "[* TO *]", "{a TO z}",
    "steam~2", "steam^1000", "(((((", ")))))", '"unbalanced', "a\\", "AND OR NOT", "+tenant:blue -tenant:acme", "a && b || !c", "te?t",
    "_id:*", "<script>alert(1)</script>", "' OR '1'='1", "'; DROP TABLE rows; --", "1 UNION SELECT * FROM rows", "%00", "../../etc/passwd",
]  # fmt: skip
_UNICODE = ["\u0000", "\u202e", "\ufeff", "\ufffd", "a\u0301" * 40, "\U0001f682", "ﬀ", "İ", "ß", "\u200b\u200c\u200d", "\u2028\u2029", "𝕤𝕥𝕖𝕒𝕞",
            "\ud7ff", "\ue000", "\U0010ffff", "\uff33\uff54\uff45\uff41\uff4d", "\x7f\x1b[31m", "\u0085", "\uff41\uff1a\uff0a"]  # fmt: skip


def texts(seed: int = 7, count: int = 1_000) -> list[str]:
    """Each, and pairs of them around a harmless word."""
    chance = random.Random(seed)
    parts = [*_DSL, *_LUCENE, *_UNICODE]
    found = [part for part in parts if part.strip()]
    while len(found) < count:
        joined = chance.choice(["", "steam ", " "]).join(chance.sample(parts, 2)) + chance.choice(
            ["", " river", "\t", "\n"]
        )
        found += [joined] if joined.strip() else []
    return found


def bodies() -> Iterator[bytes]:
    """What is no question: bombs of depth and size, doubled keys, numbers beyond all bounds, other encodings."""
    for depth in (10, 100, 1_000, 20_000, 100_000):
        yield b'{"query":' + b"[" * depth + b"]" * depth + b"}"
        yield b'{"query":"a","filter":{"doc_type":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}}"
        yield b"[" * depth
    for number in (b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 5_000, b"0x10", b"1e-999999", b"00"):
        yield b'{"query":"a","k":' + number + b"}"
        yield b'{"vector":[' + number + b'],"mode":"vector"}'
    yield b'{"query":"a","filter":{' + b",".join(b'"f%d":"x"' % n for n in range(5_000)) + b"}}"
    yield b'{"query":"a","filter":{"doc_type":[' + b",".join([b'"x"'] * 20_000) + b"]}}"
    yield b'{"query":"' + b"a" * 3_000_000 + b'"}'
    yield b'{"vector":[' + b",".join([b"0.1"] * 100_000) + b'],"mode":"vector"}'
    yield b'{"query":"a","query":{"match_all":{}}}'
    yield b'{"query":"\\ud800"}'
    yield b'{"\\ud800":"a"}'
    yield b"\xff\xfe\x00"
    yield b'{"query":"a"}{"query":"b"}'
    yield b'{"query":"a"}\n{"index":"other"}\n'
    yield b"query=a&k=1"
    yield b""
    yield b"null"
    yield b'{"query":"a","size":10000,"from":0,"_source":true,"script_fields":{}}'


def structured(seed: int = 8) -> list[dict[str, Any]]:
    """Where a value belongs: DSL, other types, names of fields that are not told."""
    values: list[Any] = [
        json.loads(text) for text in _DSL if text.startswith("{") and text.endswith("}") and "{{" not in text
    ]
    values += [*_LUCENE, True, -1, 2**70, 1.5, None, [], {}, [[]], {"gte": "a"}, {"from": {"match_all": {}}}]
    places = [
        "query",
        "vector",
        "mode",
        "k",
        "filter",
        "cursor",
        "generation",
        "fusion",
        "exact",
        "group_by_document",
        "explain",
    ]
    found = [{"query": "steam", place: value} for place, value in itertools.product(places, values)]
    names = [
        "tenant",
        "_id",
        "_source",
        "vector",
        "metadata.*",
        "metadata.lang",
        "row_digest",
        "partition",
        "*",
        "",
        "a.b.c",
        "doc_type.keyword",
        "_index",
    ]
    found += [{"query": "steam", "filter": {name: value}} for name, value in itertools.product(names, values)]
    random.Random(seed).shuffle(found)
    return found
