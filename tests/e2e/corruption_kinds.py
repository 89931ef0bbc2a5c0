"""Kinds of corruption: each does one thing to a generation behind Backhaul's back, and says what must be told of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.e2e.indexed import Indexed, Row, load

Rows = dict[str, Row]


@dataclass(frozen=True)
class Corruption:
    """Exactly ``gates`` must refuse, those that ``may`` aside, and the message must hold each of ``named``. A repair may
    write or delete the rows ``touched`` and no other; one that is not ``mendable`` is refused in the same words, and
    ``undo`` takes it back."""

    gates: frozenset[str]
    named: tuple[str, ...]
    touched: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    mendable: bool = True
    undo: Callable[[], object] = lambda: None
    of: Indexed | None = None  # another generation than the one given
    settings: tuple[str, ...] | None = None  # those of verify and repair, where they are others


Kind = Callable[[Indexed, Rows, random.Random], Corruption]


def row_missing(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    keys = _some(rows, chance, chance.randint(1, 3))
    for key in keys:
        index.delete(key)
    return Corruption(frozenset({"ids"}), (f"{len(keys)} missing", *keys), frozenset(keys))


def stranger_row(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """In a partition that is known, unknown or not named at all; with the number of another row, or of none."""
    source, key = dict(rows[_one(rows, chance)].source), f"stranger-{chance.randrange(10**9)}"
    how = chance.choice(
        ["a copy under another id", "a number of its own", "unknown partition", "no partition", "empty"]
    )
    named = key
    if how == "a number of its own":
        source["number"] += 1_000_000
    elif how == "unknown partition":
        source["partition"] = named = f"nobody{chance.randrange(100)}"
    elif how == "no partition":
        named = "1 rows of no partition"
        del source["partition"]
    elif how == "empty":
        source, named = {}, "1 rows of no partition"
    index.send("PUT", f"_doc/{key}?refresh=true", source or {"title": ""})
    return Corruption(frozenset({"ids"}), ("1 strange", named))


def vector_bit(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    key = _one(rows, chance)
    vector = np.array(rows[key].source["vector"], np.float32)
    at, bit = chance.randrange(len(vector)), chance.randrange(23)  # of the mantissa: no NaN
    vector.view(np.uint32)[at] ^= np.uint32(1 << bit)
    index.write(key, rows[key].source | {"vector": [float(value) for value in vector]})
    return Corruption(frozenset({"vectors"}), (key,), frozenset({key}))


FIELDS = ("title", "document_id", "uri", "doc_type", "ordinal", "start", "end", "tokens", "metadata",
          "row_digest", "id")  # fmt: skip


def field_altered(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    return _altered(index, rows, _one(rows, chance), chance.choice(FIELDS))


def text_altered(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    return _altered(index, rows, _one(rows, chance), "text")


def tenant_altered(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """Another's, or nobody's."""
    key = _one(rows, chance)
    return _altered(index, rows, key, "tenant", chance.choice([_other(rows[key].source["tenant"]), None]))


def row_moved(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """Its partition or its number is another's, nobody's, or two."""
    key = _one(rows, chance)
    source, gates, named = dict(rows[key].source), {"ids"}, "1 missing"
    partitions = sorted({row.source["partition"] for row in rows.values()} - {source["partition"]})
    how = chance.choice(["partition", "nobody", "both", "number", "words"])
    if how == "partition":
        source["partition"] = chance.choice(partitions)
    elif how == "nobody":
        source["partition"] = named = "nobody"
    elif how == "both":
        source["partition"], named = [source["partition"], "nobody"], "1 rows of partition 'nobody'"
        gates.add("content")
    elif how == "number":
        source["number"] += chance.choice([-1, 1, 7])
    else:
        source["number"] = str(source["number"])
    index.write(key, source)
    return Corruption(frozenset(gates), (key, named), frozenset({key}))


def field_missing(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    key, name = _one(rows, chance), chance.choice(["vector", "text", "id", "number", "partition", "row_digest"])
    source = {field: value for field, value in rows[key].source.items() if field != name}
    index.write(key, source)
    gates = {"vector": {"vectors", "sound vectors"}, "number": {"ids"}, "partition": {"ids"}}.get(name, {"content"})
    return Corruption(frozenset(gates), (key,), frozenset({key}))


def several(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """Of different kinds at once, on different rows."""
    made, left = [], dict(rows)
    for kind in chance.sample([row_missing, stranger_row, vector_bit, tenant_altered], 3):
        made.append(kind(index, left, chance))
        left = {key: row for key, row in left.items() if key not in made[-1].touched}
    named = tuple(name for each in made for name in each.named)
    return Corruption(frozenset[str]().union(*(each.gates for each in made)), named,
                      frozenset[str]().union(*(each.touched for each in made)))  # fmt: skip


def wrong_space(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    meta = index.send("GET", "_mapping")[index.name]["mappings"]["_meta"]
    space = dict(meta["backhaul"]["space"])
    name = chance.choice(sorted(space))
    space[name] = not space[name] if isinstance(space[name], bool) else _other(space[name])
    index.send("PUT", "_mapping", {"_meta": {"backhaul": meta["backhaul"] | {"space": space}}})
    return Corruption(frozenset({"space"}), (name, "drop"), mendable=False,
                      undo=lambda: index.send("PUT", "_mapping", {"_meta": meta}))  # fmt: skip


def poor_graph(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """Built with settings too poor for its recall."""
    made = _with_poor_graph(index, chance)
    return Corruption(frozenset({"recall"}), ("recall@10", "index.ef_search"), mendable=False, of=made,
                      undo=lambda: made.send("DELETE", ""))  # fmt: skip


def other_graph(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """Built with poorer settings than those that are asked for."""
    made = _with_poor_graph(index, chance)
    return Corruption(frozenset({"mapping"}), ("vector.method.parameters.m: 16 here, 2 there", "drop"),
                      may=frozenset({"recall"}), mendable=False, of=made, settings=index.settings,
                      undo=lambda: made.send("DELETE", ""))  # fmt: skip


def replica_missing(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """Copies that no node holds."""
    copies = chance.randint(1, 3)
    index.send("PUT", "_settings", {"index": {"number_of_replicas": copies}})
    return Corruption(frozenset({"replicas"}), (f"yellow, {copies} replicas",))


def node_missing(index: Indexed, rows: Rows, chance: random.Random) -> Corruption:
    """More copies are asked for than there are nodes to hold them."""
    copies = chance.randint(1, 3)
    return Corruption(frozenset({"replicas"}), (f"index.replicas {copies} takes {copies + 1} data nodes", "index.replicas 0"),
                      mendable=False, settings=(*index.settings, f"index.replicas={copies}"))  # fmt: skip


KINDS: tuple[Kind, ...] = (row_missing, stranger_row, vector_bit, text_altered, tenant_altered, field_altered, row_moved, field_missing, several,
                           wrong_space, poor_graph, other_graph, replica_missing, node_missing)  # fmt: skip


def _altered(index: Indexed, rows: Rows, key: str, name: str, value: Any = ...) -> Corruption:
    source = rows[key].source
    index.write(key, source | {name: _other(source[name]) if value is ... else value})
    return Corruption(frozenset({"content"}), (key, name), frozenset({key}))


def _with_poor_graph(index: Indexed, chance: random.Random) -> Indexed:
    poor = (f"index.ef_construction={chance.randint(8, 11)}", "index.m=2", "index.ef_search=8")
    return load(index.conf, index.node, (*index.settings, *poor))


def _one(rows: Rows, chance: random.Random) -> str:
    return _some(rows, chance, 1)[0]


def _some(rows: Rows, chance: random.Random, count: int) -> list[str]:
    return chance.sample(sorted(rows), count)


def _other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, dict):
        return {name: _other(one) for name, one in value.items()}
    return value + 1 if isinstance(value, int) else f"{value or ''}x"
