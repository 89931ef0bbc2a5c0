"""Which generations of a corpus its releases keep, and which runs are kept with them. Knows no objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipelines.releases import ReleaseLog
from pipelines.targets.target import Generation

_DIGITS = 12  # of the run id in a generation's name


def kept_by_releases(log: ReleaseLog, target_id: str, names: Collection[str], live: str, keep: int) -> dict[str, str]:
    """Why each is kept, by name, of those that are there: the live one, those that ``keep`` rollbacks lead to, and the
    ``keep`` that were live last, as after a rollback one may want to go forth again."""
    kept = {live: "live"}
    path = log.path(target_id)
    before = path[: path.index(live)] if live in path else path
    for name in [name for name in reversed(before) if name in names][:keep]:
        kept.setdefault(name, f"a rollback leads to it (index.keep_releases {keep})")
    lately = dict.fromkeys(reversed(released_on(log, target_id)))
    for name in [name for name in lately if name != live and name in names][:keep]:
        kept.setdefault(name, f"live lately (index.keep_releases {keep})")
    return kept


def released_on(log: ReleaseLog, target_id: str) -> list[str]:
    """Every release there ever was on a target, oldest first."""
    return [record.generation for record in log.all(target_id)]


class HeldRuns:
    """The runs of kept generations: of those here, and of those that releases keep on other targets of the corpus, though
    it cannot be seen from here whether they are still there."""

    def __init__(self, log: ReleaseLog, target_id: str, kept_here: Sequence[Generation], keep: int) -> None:
        self._here = {each.meta.run_id: f"generation {each.name} is kept" for each in kept_here}
        self._elsewhere: Mapping[str, str] = {
            name.removeprefix(f"{log.corpus}-")[:_DIGITS]: f"generation {name} was released on target {other}"
            for other in log.targets()
            if other != target_id
            for path in [log.path(other)]
            for name in kept_by_releases(log, other, path, path[-1], keep)
        }

    def why(self, run_id: str) -> str:
        """Empty when nothing holds it."""
        return self._here.get(run_id) or self._elsewhere.get(run_id[:_DIGITS], "")
