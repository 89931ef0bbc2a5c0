"""The gates: what was found, what is asked for, and what mends the difference. Each is a function of its findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.manifest import Manifest
from pipelines.space import Space
from pipelines.targets.target import Generation, Health
from pipelines.verify.rows import ALTERED, EXAMPLES, MISSING, STRANGE, UNSOUND, VECTOR

REPAIR = (
    "`backhaul repair CONF --generation NAME --yes` deletes what does not belong and loads what is missing or altered"
)
ANEW = "`backhaul drop CONF --generation NAME`, then `backhaul run CONF` loads it anew from its parts"
AS_MADE = f"put the settings back with which it was made; or {ANEW}"
RECALL = "raise index.ef_search and verify again; or raise index.m or index.ef_construction and `backhaul run CONF`, which embeds nothing again"  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gate:
    """One proof. ``detail`` names the first offenders, ``mend`` says what to do where it did not pass."""

    name: str
    passed: bool
    found: str
    wanted: str
    detail: str = ""
    mend: str = ""


def gates_of_rows(manifest: Manifest, outcomes: Sequence[Mapping[str, Any]], stored: Mapping[str, int]) -> list[Gate]:
    """Ids, content, vectors and their soundness, from every partition's findings and the index's own counts."""
    problems: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for outcome in outcomes:
        problems.update(outcome["problems"])
        for line in outcome["examples"]:
            examples.setdefault(line.partition(":")[0], []).append(f"{line} in partition {outcome['partition'][:12]}")
    strangers = strange_partitions(manifest, stored)
    problems[STRANGE] += sum(strangers.values())
    unseen = [(outcome["partition"], abs(stored.get(outcome["partition"], 0) - outcome["rows"])) for outcome in outcomes
              if stored.get(outcome["partition"], 0) != outcome["rows"]]  # fmt: skip
    ids = [*examples.get(MISSING, [])[:EXAMPLES], *examples.get(STRANGE, [])[:EXAMPLES],
           *(_in_words(name, rows) for name, rows in sorted(strangers.items())[:EXAMPLES]),
           *(f"partition {name[:12]} was counted with {rows} rows more or less than scanned: somebody writes to it"
             for name, rows in unseen[:EXAMPLES])]  # fmt: skip
    dead = sum(outcome["dead"] for outcome in outcomes)
    exact = not (problems[MISSING] or problems[STRANGE] or unseen)

    def gate(name: str, kind: str, found: str) -> Gate:
        return Gate(name, not problems[kind], f"{problems[kind]} {found}", "0",
                    "; ".join(examples.get(kind, [])[:EXAMPLES]), REPAIR)  # fmt: skip

    return [
        Gate("ids", exact, f"{problems[MISSING]} missing, {problems[STRANGE]} strange",
             f"exactly {manifest.rows - dead} rows", "; ".join(ids), REPAIR),
        gate("content", ALTERED, "rows altered"),
        gate("vectors", VECTOR, "vectors altered"),
        gate("sound vectors", UNSOUND, "vectors with NaN, zero or absent"),
    ]  # fmt: skip


def strange_partitions(manifest: Manifest, stored: Mapping[str, int]) -> dict[str, int]:
    """Rows of the index by partitions that the manifest lacks; the empty string: rows that name none."""
    known = {entry.partition for entry in manifest.entries}
    return {name: rows for name, rows in stored.items() if name not in known and rows}


def gate_of_dead_letters(outcomes: Sequence[Mapping[str, Any]], limit: int) -> Gate:
    """Rows that the index refused are not expected in it, so the other gates pass without them."""
    dead = sum(outcome["dead"] for outcome in outcomes)
    return Gate("dead letters", dead <= limit, f"{dead} rows refused by the index", f"at most {limit}",
                mend=f"`backhaul failures CONF` shows why; mend the cause, then {ANEW}")  # fmt: skip


def gate_of_space(manifest: Manifest, generation: Generation) -> Gate:
    difference = Space(**manifest.space).difference(Space(**generation.meta.space))
    return Gate("space", not difference, "differs" if difference else "equal", "equal", "; ".join(difference), ANEW)


def gate_of_mapping(differences: Sequence[str]) -> Gate:
    """``differences`` between the generation's mapping and graph and the settings', the dimension among them."""
    return Gate("mapping", not differences, "differs" if differences else "as the settings ask", "as the settings ask",
                "; ".join(differences), AS_MADE)  # fmt: skip


def gate_of_replicas(health: Health) -> Gate:
    return Gate("replicas", health.sound, health.found, "green, as the settings ask",
                mend=health.advice or "`backhaul repair CONF --generation NAME --yes` restores its settings and copies")  # fmt: skip


def is_mended_by_repair(gate: Gate) -> bool:
    return "`backhaul repair CONF" in gate.mend


def told_only(limit: float | None, text: str) -> str:
    """What a limit asks for that may be left out."""
    return "told only" if limit is None else text.format(f"{limit:g}")


def _in_words(partition: str, rows: int) -> str:
    return f"{rows} rows of partition {partition!r}, which is unknown" if partition else f"{rows} rows of no partition"
