"""Dead letters: rows that the index refused for good, kept beside the load's receipts, and driven again later.

The load's receipt names the first file of a partition. Each time its letters are driven again a numbered record follows,
which names those that were refused again; the newest record counts. Knows no index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from pipelines.digest import FORMAT, canonical_json, check_format, digest_bytes
from pipelines.manifest import Entry
from pipelines.store import Created, Store
from pipelines.targets.target import DeadLetter

Rejects = dict[str, Any]  # {"file": key relative to the run | None, "counts": {cause: rows}}


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A letter with the number of the part it came from, and which of that part's rows it is."""

    letter: DeadLetter
    part: int
    row: int


class DeadLetters:
    """Those of one generation."""

    def __init__(self, store: Store, run_id: str, generation: str, index_uuid: str) -> None:
        self._store = store
        self._run = f"runs/{run_id}"
        self._folder = f"loads/{generation}/{index_uuid}/dead"
        self._redrive = f"{self._run}/redrive/{generation}/{index_uuid}"

    def write(self, entry: Entry, letters: Sequence[DeadLetter]) -> Rejects:
        """Keep the letters of one partition, each with the part and the row in it that it came from; content-addressed."""
        counts = Counter(letter.cause for letter in letters)
        if not letters:
            return {"file": None, "counts": {}}
        ordered = sorted(letters, key=lambda each: (each.number, each.id))
        lines = [canonical_json(asdict(KeptLetter(each, *_place(entry, each.number)))) for each in ordered]
        data = b"\n".join(lines) + b"\n"
        file = f"{self._folder}/{entry.partition}-{digest_bytes(data)}.jsonl"
        self._store.put(f"{self._run}/{file}", data)
        return {"file": file, "counts": dict(counts)}

    def read(self, rejects: Rejects) -> list[KeptLetter]:
        if rejects["file"] is None:
            return []
        lines = map(orjson.loads, self._store.get(f"{self._run}/{rejects['file']}").splitlines())
        return [KeptLetter(DeadLetter(**line["letter"]), line["part"], line["row"]) for line in lines]

    def now(self, partition_id: str, receipt: Mapping[str, Any] | None) -> Rejects:
        """What is still refused of one partition, after its load and whatever was driven again."""
        if receipt is None or receipt["rejects"]["file"] is None:
            return {"file": None, "counts": {}}
        return self._newest(partition_id, self._records(f"{self._redrive}/{partition_id}/"), receipt)

    def all_now(self, receipts: Mapping[str, Mapping[str, Any]]) -> dict[str, Rejects]:
        """The same by partition id, for those that were ever refused something."""
        refused = {one: receipt for one, receipt in receipts.items() if receipt["rejects"]["file"]}
        if not refused:
            return {}
        keys: dict[str, list[str]] = {}
        for key in self._records(f"{self._redrive}/"):
            keys.setdefault(key.split("/")[-2], []).append(key)
        return {one: self._newest(one, keys.get(one, []), receipt) for one, receipt in refused.items()}

    def drove_again(self, partition_id: str, rejects: Rejects, *, tried: int) -> None:
        """Record what is left after ``tried`` letters were sent again."""
        record = {"format": FORMAT, "partition": partition_id, "tried": tried, "rejects": rejects}
        number = len(self._records(f"{self._redrive}/{partition_id}/"))
        while True:
            number += 1
            key = f"{self._redrive}/{partition_id}/{number:08d}.json"
            if self._store.create(key, canonical_json(record)) is Created.WON:
                return

    def _records(self, prefix: str) -> list[str]:
        return sorted(found.key for found in self._store.list(prefix))

    def _newest(self, partition_id: str, keys: Sequence[str], receipt: Mapping[str, Any]) -> Rejects:
        if not keys:
            return dict(receipt["rejects"])
        record = orjson.loads(self._store.get(keys[-1]))
        check_format(record.pop("format", None), f"{self._store.uri}/{keys[-1]}")
        return dict(record["rejects"])


def total(rejects: Iterable[Rejects]) -> Counter[str]:
    """Rows by cause."""
    counts: Counter[str] = Counter()
    for each in rejects:
        counts.update(each["counts"])
    return counts


def _place(entry: Entry, number: int) -> tuple[int, int]:
    """The part that holds a row of a partition, and which of its rows it is."""
    first = 0
    for part in entry.parts:
        if number < first + part.rows:
            return part.number, number - first
        first += part.rows
    raise AssertionError(f"partition {entry.partition} has no row {number}")
