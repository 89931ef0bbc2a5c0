"""Which generation an alias names, and moving it as a compare-and-swap. The alias is the truth.

OpenSearch can swap an alias atomically from an expected index, but cannot add one only where none is. So the first
release is decided in the object store, by creating the record, and a token on the generation (an alias of its own,
removed in the call that adds the real one) lets the addition happen at most once: a process that slept between
deciding and adding finds its token gone, and cannot add a second index behind a later release.
"""

from __future__ import annotations

from typing import Any

from pipelines.errors import AliasMoved, TargetError
from pipelines.releases import ReleaseLog
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_failures import Refused
from pipelines.targets.opensearch_index import path_of
from pipelines.targets.opensearch_mapping import first_release_alias, meta_of


class Aliases:
    def __init__(self, cluster: Cluster, target_id: str, log: ReleaseLog) -> None:
        self._cluster = cluster
        self._target_id = target_id
        self._log = log

    def live(self, corpus: str) -> str | None:
        """Raises TargetError when the name belongs to an index, to several, or to one that is not ours."""
        try:
            found = self._cluster.call("GET", f"{path_of(corpus)}/_mapping")
        except Refused as error:
            if error.failure.status == 404:
                return None
            raise
        if corpus in found:
            raise self._cluster.error(
                f"an index has the name {corpus!r}, which the alias of the corpus needs; something wrote to it before "
                f"the first release and it was created automatically. If nothing in it is needed, delete that index "
                f"(DELETE /{corpus}) and set action.auto_create_index to keep it from coming back"
            )
        if len(found) != 1:
            raise self._cluster.error(f"alias {corpus!r} names {len(found)} indices ({', '.join(sorted(found))}); "
                                      "remove it from all but the one that shall be live")  # fmt: skip
        (name,) = found
        if meta_of(found[name]["mappings"], f"index {name}") is None:
            raise self._cluster.error(f"alias {corpus!r} names {name}, which Backhaul did not make; "
                                      "choose another corpus name, or remove that alias")  # fmt: skip
        return str(name)

    def move(self, corpus: str, expected: str | None, to: str) -> None:
        """Raises AliasMoved when the live generation is not ``expected``."""
        if expected is None:
            self._release_first(corpus, to)
            return
        try:
            self._act(corpus, to, _remove(expected, corpus), _add(to, corpus))
        except Refused as error:
            self._must_exist(to)
            if error.failure.type in ("aliases_not_found_exception", "index_not_found_exception"):
                raise self._moved(corpus, expected) from error
            raise

    def _release_first(self, corpus: str, to: str) -> None:
        self._must_exist(to)
        if self.live(corpus) is not None:
            raise self._moved(corpus, None)
        decided = self._log.newest(self._target_id)
        if decided is None or not self._exists(decided.generation):
            # Nothing was ever decided, or what was is gone: this release decides.
            record = self._log.append(self._target_id, to, after=decided)
            decided = record or self._log.newest(self._target_id)
        assert decided is not None
        self._complete(corpus, decided.generation)
        if decided.generation != to:
            raise AliasMoved(f"the first release of {corpus} was decided for {decided.generation}, which is live now; "
                             f"nothing was changed for {to}. Run the command again to release it next")  # fmt: skip

    def _complete(self, corpus: str, name: str) -> None:
        """Add the alias to the generation that the record names, unless another process did."""
        try:
            self._act(corpus, name, _remove(name, first_release_alias(name)), _add(name, corpus))
        except Refused as error:
            if error.failure.type != "aliases_not_found_exception":
                raise
            live = self.live(corpus)
            if live is None:  # released once before, and its alias removed by hand
                self._act(corpus, name, _add(name, corpus))
            elif live != name:
                raise self._moved(corpus, None) from error

    def _act(self, corpus: str, to: str, *actions: dict[str, Any]) -> None:
        """One atomic call, sent once: a repeat of one whose answer was lost would seem to lose against itself.

        Without an answer the alias itself tells whether it was carried out.
        """
        try:
            if self._cluster.once("POST", "/_aliases", {"actions": list(actions)})["acknowledged"]:
                return
        except Refused as error:
            if error.failure.status is None and self.live(corpus) == to:
                return
            raise
        if self.live(corpus) != to:
            raise self._cluster.error(f"moving alias {corpus!r} to {to} was not acknowledged; run the command again")

    def _exists(self, name: str) -> bool:
        try:
            found = self._cluster.call("GET", f"{path_of(name)}/_mapping")
        except Refused as error:
            if error.failure.status == 404:
                return False
            raise
        return name in found and meta_of(found[name]["mappings"], f"index {name}") is not None

    def _must_exist(self, name: str) -> None:
        if not self._exists(name):
            raise self._cluster.error(f"generation {name} does not exist; `backhaul list CONF` shows what can go live")

    def _moved(self, corpus: str, expected: str | None) -> TargetError:
        live = self.live(corpus)
        return AliasMoved(f"OpenSearch at {self._cluster.url}: {live or 'nothing'} is live for {corpus}, "
                          f"not {expected or 'nothing'}; run `backhaul list CONF`, then the command again")  # fmt: skip


def _add(index: str, alias: str) -> dict[str, Any]:
    return {"add": {"index": index, "alias": alias}}


def _remove(index: str, alias: str) -> dict[str, Any]:
    # Without must_exist a wrong expectation would leave the alias on both indices.
    return {"remove": {"index": index, "alias": alias, "must_exist": True}}
