"""Bugs to plant: small mutations of the protocol's code, and as what the simulation must catch each.

``edits`` are (old text, new text); each old text stands exactly once in its module, so that mutations do not rot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """``caught_as`` names the invariants that may break first."""

    what: str
    module: str
    edits: tuple[tuple[str, str], ...]
    caught_as: tuple[str, ...]


STORE, RETRY, PAGES = "pipelines.store", "pipelines.retry", "pipelines.pages"
RECEIPTS, CHECKPOINT, MANIFEST = "pipelines.receipts", "pipelines.checkpoint", "pipelines.manifest"
LEASES, LEASED = "pipelines.leases", "pipelines.leased"
PENDING, PARTITIONS = "jobs.engines.pending", "pipelines.plan.partitions"

FOR_NOTHING, LATE = "failed for nothing", "kept waiting"


def _bug(what: str, module: str, old: str, new: str, *caught_as: str) -> Bug:
    return Bug(what, module, ((old, new),), caught_as)


CREATING = [
    _bug("a create overwrites", STORE,
         'data, mode="create", use_multipart=False)', "data, use_multipart=False)", "written twice", "another's epoch"),
    _bug("what a create met is deleted", STORE,
         "doubt: Exception = error  #", "self._api.delete(self._backend, [key]); doubt: Exception = error  #", "deleted"),
    _bug("409 means lost", STORE,
         "doubt: Exception = error  # 412, or", "return Created.LOST  # 412, or", FOR_NOTHING),
    _bug("412 means won, without comparing", STORE,
         "doubt: Exception = error  # 412, or", "return Created.WON  # 412, or",
         "not in its hands", "another's epoch", "another receipt"),
    _bug("a time-out means lost", STORE,
         "doubt = error  # the answer", "return Created.LOST  # the answer", FOR_NOTHING),
    _bug("a time-out means won", STORE,
         "doubt = error  # the answer", "return Created.WON  # the answer", "not in its hands", "another receipt", FOR_NOTHING),
    _bug("a time-out is an error at once", STORE,
         "doubt = error  # the answer", "raise StoreError(str(error)) from error  # the answer", FOR_NOTHING),
    _bug("missing on reading back means lost", STORE,
         "                raise obstore.exceptions.GenericError(\n", "                return Created.LOST\n                raise Exception(\n",
         FOR_NOTHING),
    _bug("missing on reading back means won", STORE,
         "                raise obstore.exceptions.GenericError(\n", "                return Created.WON\n                raise Exception(\n",
         "not in its hands", "another receipt", FOR_NOTHING),
    _bug("other bytes on reading back are ours", STORE,
         "Created.WON if found == data else Created.LOST", "Created.WON",
         "not in its hands", "another's epoch", "another receipt"),
    _bug("503 is final", RETRY, 'if status and status[0] == "4" and', "if status and", FOR_NOTHING, "not released"),
    _bug("nothing is tried twice", RETRY, "if not backoff.wait():", "if True:", FOR_NOTHING, "not released"),
    _bug("a listing ends with its first page", PAGES,
         "reached = found[-1].key if found else reached", "return",
         FOR_NOTHING, LATE, "never ends", "not finished", "computed twice", "not the reference"),
    _bug("a listing that broke off is at its end", PAGES,
         "opened, pages = pages, None  #", "opened = pages  #",
         FOR_NOTHING, LATE, "never ends", "computed twice", "not the reference"),
]  # fmt: skip

COMMITTING = [
    _bug("a receipt is put, not created", RECEIPTS,
         "if self._store.create(self._key(partition_id), canonical_json(complete)) is Created.WON:",
         "self._store.put(self._key(partition_id), canonical_json(complete))\n        if True:", "written twice"),
    _bug("a receipt is put where the create was lost", RECEIPTS,
         "winner = self.find(partition_id)",
         "self._store.put(self._key(partition_id), canonical_json(complete))\n        winner = self.find(partition_id)",
         "written twice"),
    _bug("the loser answers with its own receipt", RECEIPTS,
         "winner = self.find(partition_id)", "winner: dict[str, Any] | None = complete", "another receipt"),
    _bug("what a receipt names is not looked for", RECEIPTS,
         "for key in must_exist:", "for key in ():", "named and not there"),
    _bug("only the last that a receipt names is looked for", RECEIPTS,
         "for key in must_exist:", "for key in must_exist[-1:]:", "named and not there"),
    _bug("the time in a receipt", RECEIPTS,
         '{"format": FORMAT, **receipt}', '{"format": FORMAT, **receipt, "at": __import__("time").time_ns()}',
         "not the reference"),
    _bug("partitions with parts are taken for committed", RECEIPTS,
         'self._store.list(f"{self.folder}/", cuts=hex_cuts(self.folder)):',
         'self._store.list(self.folder.replace("receipts/embed", "parts/")):\n'
         '            yield found.key.split("/")[3], 0\n        for found in ():',
         FOR_NOTHING, "not finished", "never ends"),
    _bug("an attempt in the receipt", CHECKPOINT,
         "commit(self._partition_id, receipt,", 'commit(self._partition_id, {**receipt, "attempt": self._attempt},',
         "not the reference"),
    Bug("the receipt before the data", CHECKPOINT,
        (("self._store.put(part_key(self._run_id, self._partition_id, number, sha256), data)",
          "self._late = (part_key(self._run_id, self._partition_id, number, sha256), data)"),
         ("return self._receipts.commit(self._partition_id, receipt, must_exist=named)",
          "done = self._receipts.commit(self._partition_id, receipt, must_exist=[])\n"
          "        self._store.put(*self._late)\n        return done")), ("named and not there",)),
    _bug("a found part is not compared with its name", CHECKPOINT,
         'if digest_bytes(data) != key.removeprefix(prefix).removesuffix(".parquet"):', "if False:", FOR_NOTHING),
    _bug("a found part that is damaged is deleted", CHECKPOINT,
         'if digest_bytes(data) != key.removeprefix(prefix).removesuffix(".parquet"):\n',
         'if digest_bytes(data) != key.removeprefix(prefix).removesuffix(".parquet"):\n'
         "                self._store.delete([key])\n", "deleted"),
    _bug("of several good parts the largest name", CHECKPOINT,
         "in sorted(key for key in self._found if key.startswith(prefix)):",
         "in sorted((key for key in self._found if key.startswith(prefix)), reverse=True):", "not the reference"),
    _bug("a part is named by its number", CHECKPOINT,
         '{number:06d}-{sha256}.parquet"', '{number:06d}.parquet"', "a name that lies"),
    _bug("a part is not marked before it is computed", CHECKPOINT,
         'self._store.put(f"{folder}/{number:06d}", canonical_json(facts))', "pass", "no mark"),
    _bug("attempts share their marks", CHECKPOINT,
         "{self._partition_id}/{self._attempt}", "{self._partition_id}/attempt", "no mark"),
    _bug("the parts of an attempt that ended are deleted", CHECKPOINT,
         "return self._receipts.commit(self._partition_id, receipt, must_exist=named)",
         "done = self._receipts.commit(self._partition_id, receipt, must_exist=named)\n"
         "        self._store.delete(named)\n        return done", "deleted"),
    _bug("a manifest without the receipt that is missing", MANIFEST,
         "if missing := [partition.number for partition in partitions if partition.id not in receipts]:",
         "partitions = [one for one in partitions if one.id in receipts]\n    if missing := []:", "not the reference"),
    _bug("a manifest is put, not created", MANIFEST,
         'if store.create(manifest_key(manifest.run_id), data) is Created.LOST:',
         'store.put(manifest_key(manifest.run_id), data)\n    if False:', "written twice"),
    _bug("a manifest without its root digest", MANIFEST,
         '{"format": FORMAT, **value, "root": root}', '{"format": FORMAT, **value}', "not the reference"),
]  # fmt: skip

LEASING = [
    _bug("an epoch is put, not created", LEASES,
         "return self._store.create(self._key(partition_id, epoch.number), _spell(epoch)) is Created.WON",
         "self._store.put(self._key(partition_id, epoch.number), _spell(epoch)); return True", "another's epoch"),
    _bug("a lease holds nobody off", LEASES,
         "return max(0.0, min(by_its_word, by_our_watch))", "return 0.0", "robbed", "computed twice"),
    _bug("a lease never ends", LEASES,
         "return max(0.0, min(by_its_word, by_our_watch))", "return 9.0", LATE),
    _bug("a lease ends by its holder's clock alone", LEASES,
         "min(by_its_word, by_our_watch)", "by_its_word", LATE),
    _bug("a lease ends by the looker's watch alone", LEASES,
         "min(by_its_word, by_our_watch)", "by_our_watch", LATE),
    _bug("the watch runs from the first look at any epoch", LEASES,
         "if seen != epoch:", "if seen is None:", "robbed", "computed twice"),
    _bug("skew is forgotten", LEASES, " + self._settings.max_skew_s", "", "robbed"),
    _bug("skew is subtracted", LEASES, "+ self._settings.max_skew_s", "- self._settings.max_skew_s", "robbed"),
    _bug("the own invocation waits for its dead worker", LEASES,
         "if epoch.ended or owner.invocation == us.invocation:", "if epoch.ended:", LATE),
    _bug("a released lease is held", LEASES,
         "if epoch.ended or owner.invocation == us.invocation:", "if owner.invocation == us.invocation:", LATE),
    _bug("a holder that died on this machine is waited for", LEASES,
         "if owner.host == us.host and self._machine.is_dead(owner):", "if False:", LATE),
    _bug("whether it lives is asked of another machine", LEASES,
         "owner.host == us.host and self._machine", "self._machine", "robbed"),
    _bug("a takeover is not noticed", LEASES,
         "self.lost = self.lost or (after", "self.lost = False and (after", "went on after a loss"),
    _bug("a renewal dates nothing", LEASES,
         "replace(epoch, renewed_ms=now, expires_ms=now + round(self._settings.ttl_s * 1000))",
         "replace(epoch, renewed_ms=now)", "robbed", "computed twice"),
    _bug("a lease is renewed too late", LEASES, "self._settings.ttl_s / 3", "self._settings.ttl_s * 2",
         "computed twice", "computed again", "went on after a loss"),
    _bug("a lease is not released", LEASES, "            self._write(how)\n", "            pass\n", "not released"),
    _bug("a lease is released as held", LEASES, "ended=ended, progressed", "ended=None, progressed", "not released"),
    _bug("two threads write a lease at a time", LEASES,
         "with self._writing:", "if True:", "progress not kept", "not released", "given up too early"),
    _bug("deaths are not counted", LEASES, "deaths = in_a_row + died", "deaths = in_a_row", "not given up", "progress not kept"),
    _bug("deaths are counted in spite of progress", LEASES,
         "0 if before.progressed or before.ended in", "0 if before.ended in", "given up too early"),
    _bug("an interruption hides the progress before it", LEASES,
         "0 if before.progressed or before.ended in", "0 if (before.progressed and died) or before.ended in",
         "given up too early"),
    _bug("an interruption counts as a death", LEASES,
         "died = before.ended is None", 'died = before.ended in (None, "interrupted")', "given up too early"),
    _bug("giving up forgets the deaths", LEASES,
         'before.ended in ("done", "cleared")', 'before.ended in ("done", "cleared", "failed")', "not given up"),
    _bug("progress is written when it suits", LEASES, "            if self.epoch.deaths:\n", "            if False:\n",
         "progress not kept"),
    _bug("interruptions are not counted", LEASES,
         'before.interruptions + (died or before.ended == "interrupted")', "before.interruptions", "no on-demand mark"),
    _bug("progress is not written", LEASES, ", progressed=self._progressed", "", "progress not kept"),
    _bug("deaths are never too many", LEASED,
         "lease.epoch.deaths >= max_deaths", "lease.epoch.deaths > max_deaths", "not given up"),
    _bug("a part that was found is progress", LEASED,
         'if not getattr(beat, "resumed", False):', "if True:", "progress that was none"),
    _bug("who lost its lease goes on", LEASED,
         "lambda: self.stopping() or lease.taken_over()", "self.stopping", "went on after a loss"),
    _bug("a lease ends with success alone", LEASED,
         '    except BaseException:\n        end = "interrupted"\n        raise\n    finally:\n',
         '    except BaseException:\n        raise\n    finally:\n        if end == "done":\n    ', "not released"),
    _bug("a loss ends the engine", LEASED, "        if lease.lost:\n", "        if False:\n", FOR_NOTHING),
    _bug("the mark for on-demand capacity comes late", LEASED,
         "interruptions >= self._task.on_demand_after", "interruptions > self._task.on_demand_after", "no on-demand mark"),
]  # fmt: skip

RESUMING = [
    _bug("pending is what is committed", PARTITIONS, "one not in committed", "one in committed", FOR_NOTHING),
    _bug("what others hold is dropped", PENDING,
         "heapq.heappush(self._held, (self._clock.monotonic() + after_s, partition.number, partition, message))", "pass",
         FOR_NOTHING),
    _bug("what a dead worker had is dropped", PENDING,
         "            self._ready.appendleft(partition)\n            return None", "            return None",
         FOR_NOTHING, "not finished"),
    _bug("a partition is never given up", PENDING, "if attempts < self._max_attempts:", "if True:", "never ends"),
]  # fmt: skip

BUGS = [*CREATING, *COMMITTING, *LEASING, *RESUMING]
