"""How a verb's result reads on a terminal. Takes the same value that ``--json`` prints; computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs import render_model

Result = dict[str, Any]
_HOLDERS = 8
_MARKS = 4


def plan(r: Result) -> str:
    lines = [
        f"run          {r['run_id']}  (number {r['number']}, {r['how']})",
        f"partitions   {r['partitions']:,} of {r['objects']:,} objects; {r['embedded_partitions']:,} embedded already",
        f"documents    about {r['documents_estimated']:,}",
        f"tokens       about {r['tokens_estimated']:,}",
        f"parts        about {r['parts_expected']:,}",
        f"time         about {_hours(r['hours_estimated'])} at {r['tokens_per_second']:,.0f} tokens/s a worker",
        f"price        about ${r['usd_estimated']:.4f}{_of_tokens(r['usd_of_tokens_estimated'])}",
        f"space        {r['space_fingerprint'][:16]}  ({r['space']['dimensions']} dimensions, "
        f"{r['space']['pooling']} pooling, {r['space']['max_tokens']} tokens)",
    ]
    return "\n".join([*lines, *(f"note         {note}" for note in r["notes"]), "next         backhaul run CONF"])


def _of_tokens(usd: float | None) -> str:
    return "" if usd is None else f", ${usd:.4f} of it for the service's tokens"


def embed(r: Result) -> str:
    if not r["complete"]:
        rest = "another process makes the manifest" if not r["pending"] else _left(r)
        return f"run {r['run_id'][:12]}: {_done(r)} are embedded; {rest}\nnext: backhaul status CONF"
    return (f"run {r['run_id'][:12]}: {r['rows']:,} rows of {r['documents']:,} documents\n"
            f"content digest {r['content_digest']}\nbytes digest   {r['bytes_digest']}\nnext: backhaul load CONF")  # fmt: skip


def load(r: Result) -> str:
    if not r["complete"]:
        rest = "another process finishes the load" if not r["pending"] else _left(r)
        return f"run {r['run_id'][:12]}: {_done(r)} are loaded; {rest}\nnext: backhaul status CONF"
    return f"generation {r['generation']} holds {r['rows']:,} rows\nnext: backhaul verify CONF"


def verify(r: Result) -> str:
    width = max(len(g["name"]) for g in r["gates"])
    lines = [f"{'passed' if g['passed'] else 'FAILED'}  {g['name']:<{width}}  {g['found']} (wanted {g['wanted']}){_detail(g)}"
             for g in r["gates"]]  # fmt: skip
    return "\n".join(
        [f"generation {r['generation']}", *lines, *(["next: backhaul release CONF"] if r["passed"] else [])]
    )


def repair(r: Result) -> str:
    if not r["changed"]:
        return (
            f"generation {r['generation']}: every row is as its parts have it; nothing was changed\nnext: {r['next']}"
        )
    lines = [f"{g['name']}: {g['found']}{_detail(g)}" for g in r["found"]]
    return "\n".join([f"generation {r['generation']}", *lines, f"deleted {r['deleted']:,} rows, loaded {r['loaded']:,}; "
                      "its settings are restored", *(f"left: {each['message']}" for each in r["left"]), f"next: {r['next']}"])  # fmt: skip


def release(r: Result) -> str:
    if not r["changed"]:
        return f"{r['generation']} is live already"
    return f"{r['generation']} is live{', before it ' + r['previous'] if r['previous'] else ''}"


def run(r: Result) -> str:
    lost, rejects = r["ledger"]["truncated_tokens"], sum(r["rejects"].values())
    rate = f", {r['tokens_per_second']:,.0f} tokens/s" if r["tokens_per_second"] else ""
    return "\n".join([
        f"{r['generation']} is live{'' if r['released'] else ' already'}: {r['rows']:,} rows of {r['documents']:,} documents",
        f"embedded {r['partitions_embedded']:,} partitions in this call; {r['seconds']:.1f} s{rate}, ${r['usd']:.4f}",
        f"rejected records {rejects:,}; tokens cut off by the model's limit {lost:,}",
        f"card {r['card']}",
        'next: backhaul query CONF "your question"',
    ])  # fmt: skip


def status(r: Result) -> str:
    embed, load, proof = r["stages"]["embed"], r["stages"]["load"], r["stages"]["verify"]
    verified = (
        "not yet"
        if proof is None or proof["passed"] is None
        else ("passed" if proof["passed"] else "FAILED") + ("" if proof["current"] else ", stale")
    )
    if r["index_error"]:
        index = [f"index      {r['index_error']}"]
    else:
        index = [
            *_progress("load", load),
            f"verify     {verified}",
            f"live       {r['live']['generation'] if r['live'] else 'nothing yet'}",
        ]
    lines = [
        f"run        {r['run_id']}",
        *_progress("embed", embed),
        *index,
        *_in_hand(r["holders"]),
        f"attempts   {r['attempts']:,}, {_at_most(r)}{r['interruptions']:,} of them interrupted",
        f"parts      {r['parts_begun']:,} begun, {_again(r)}",
        *_on_demand(r["on_demand"]),
        f"failures   {r['failures']:,}" + ("  (backhaul failures CONF)" if r["failures"] else ""),
        f"content    {r['content_digest'] or 'no manifest yet'}",
        f"bytes      {r['bytes_digest'] or 'no manifest yet'}",
    ]
    return "\n".join(lines)


def failures(r: Result) -> str:
    if not r["partitions"] and not r["rejects"]:
        return f"run {r['run_id'][:12]}: no failed partitions and no rejected records"
    lines = []
    for group in r["partitions"]:
        lines.append(f"{group['stage']}: {_count(group['count'], 'partition')} failed: {group['cause']}")
        for example in group["examples"]:
            lines.append(f"    {example['partition'][:12]}  {_keys(example)}, {_count(example['attempts'], 'attempt')}")
            lines += [f"        {line}" for line in example["message"].splitlines()]
        lines += _and_more(group)
        lines.append(f"    next: {group['next']}")
    for group in r["rejects"]:
        lines.append(f"{group['stage']}: {group['count']:,} rejected: {group['cause']} ({group['meaning']})")
        lines += [f"    {example['at']}: {example['reason']}" for example in group["examples"]]
        lines += [f"    next, when it is mended: {group['next']}"] if group["next"] else []
    return "\n".join(lines)


def retry(r: Result) -> str:
    still = sum(r["failed"].values())
    left = f"{_count(still, 'partition')} failed before and did not run (backhaul failures CONF)"
    letters = r["dead_letters"]
    if not r["retried"] and not letters:
        why = f"those that failed did so for {', '.join(r['causes'])}" if r["causes"] else "no partition failed"
        return f"nothing to retry: {why}; `backhaul status CONF` says what is pending"
    what = ", ".join(f"{_count(count, 'partition')} of {stage}" for stage, count in r["retried"].items())
    lines = []
    if r["cleared_only"]:
        lines.append(f"{what} may be tried again as if for the first time; nothing was run")
    elif what:
        lines.append(f"ran {what} again; all are done now")
    if letters:
        refused = ", ".join(f"{cause} {count}" for cause, count in letters["left"].items())
        lines.append(f"sent {_count(letters['tried'], 'dead letter')} to {letters['generation']} again: {letters['taken']} "
                     f"taken, {f'left: {refused} (backhaul failures CONF)' if refused else 'none is left'}")  # fmt: skip
    return "\n".join([*lines, *([left] if still else []), f"next: {r['next']}"])


def generations(r: Result) -> str:
    if not r["generations"]:
        return f"corpus {r['corpus']} has no generation; `backhaul run CONF` makes one"
    words = {True: "verified", False: "FAILED", None: "not verified"}
    return "\n".join(f"{'*' if g['live'] else ' '} {g['generation']}  {_rows_of(g)}  {words[g['verified']]}"
                     for g in r["generations"])  # fmt: skip


def _rows_of(generation: Result) -> str:
    if generation["rows"] is None:
        return "some shards do not answer"
    return f"{generation['rows']:,} rows{', set for loading' if generation['loading'] else ''}"


def drop(r: Result) -> str:
    return f"dropped {r['dropped']}"


def gc(r: Result) -> str:
    if deleted := r["deleted"]:
        return (f"deleted {_count(len(deleted['generations']), 'generation')}, and {_count(deleted['objects'], 'object')} "
                f"of {_count(len(deleted['runs']), 'run')}")  # fmt: skip
    lines = [
        *(f"generation {g['generation']}  {_rows_of({**g, 'loading': False})}: {g['why']}" for g in r["generations"]),
        *(f"run {run['run_id'][:12]}  {_count(run['objects'], 'object')}, {_size(run['bytes'])}: {run['why']}" for run in r["runs"]),
        *([f"{_count(r['parts']['objects'], 'part')}, {_size(r['parts']['bytes'])}, that no manifest names"] if r["parts"]["objects"] else []),
        *([f"records of indices whose drop was broken off: {r['half_dropped']}"] if r["half_dropped"] else []),
    ]  # fmt: skip
    kept = [f"kept: {each['what']}: {each['why']}" for each in r["kept"]]
    return "\n".join([*(lines or [f"corpus {r['corpus']}: nothing to delete"]), *kept])


def gc_question(r: Result) -> str:
    return (f"Delete {_count(len(r['generations']), 'generation')}, and {_count(r['objects'], 'object')} of "
            f"{_count(len(r['runs']), 'run')} ({_size(r['bytes'])})?")  # fmt: skip


def query(r: Result) -> str:
    if not r["hits"]:
        return "no hits"
    lines = []
    for rank, hit in enumerate(r["hits"], 1):
        text = " ".join(hit["text"].split())
        lines.append(f"{rank:>2}. {hit['title'] or hit['document_id']}  [{hit['document_id']}]  {hit['score']:.4f}")
        lines.append(f"    {text[:240]}{'…' if len(text) > 240 else ''}")
    return "\n".join(lines)


def evaluate(r: Result) -> str:
    how = f"{r['mode']}{' exact' if r['exact'] else ''}"
    return (f"{r['queries']} queries, {how}: nDCG@10 {r['ndcg@10']:.4f}  recall@100 {r['recall@100']:.4f}  "
            f"MRR@10 {r['mrr@10']:.4f}")  # fmt: skip


def doctor(r: Result) -> str:
    lines = [f"{'ok  ' if check['ok'] else 'BAD '} {check['name']:<9} {check['found']}" for check in r["checks"]]
    if able := r["capabilities"]:
        width = max(map(len, able))
        lines += [
            "capabilities of the index:",
            *(f"     {name.replace('_', ' '):<{width}}  {said}" for name, said in able.items()),
        ]
    lines.append("versions  " + ", ".join(f"{name} {found}" for name, found in r["versions"].items()))
    return "\n".join([*lines, *(render_model.benchmark(r["benchmark"]) if "benchmark" in r else ())])


def warm(result: Result) -> str:
    refused = f", {result['refused']:,} refused" if result["refused"] else ""
    return (f"{result['asked']:,} questions asked of {result['url']} in {result['seconds']:,.1f} s{refused}; "
            f"the slowest took {result['slowest_ms']:,.0f} ms")  # fmt: skip


def key(r: Result) -> str:
    whose = f"tenant {r['tenant']}" if r["tenant"] else "every tenant"
    until = f"until {r['expires']}" if r["expires"] else "until its line is removed"
    return (f"{r['key']}\nThis is the only time that the key is shown; {r['file']} has its hash, as {r['id']}.\n"
            f"It sees the rows of {whose}, for {r['subject']}, {until}.\nnext: backhaul serve CONF")  # fmt: skip


TEXTS: dict[str, Callable[[Result], str]] = {
    "plan": plan, "embed": embed, "load": load, "verify": verify,
    "repair": repair, "release": release, "rollback": release,
    "run": run, "status": status, "failures": failures, "retry": retry, "list": generations, "drop": drop, "gc": gc,
    "query": query, "evaluate": evaluate, "doctor": doctor, "warm": warm, "key": key,
    "model pin": render_model.pin, "model export": render_model.made, "model quantize": render_model.made,
    "model compare": render_model.compare,
}  # fmt: skip


def _progress(stage: str, figures: Result) -> list[str]:
    """One line of counts, one of the pace while something is running, and one of what a worker does in a second."""
    rows = f", {figures['rows']:,} rows" if figures["rows"] is not None else ""
    parts = [f"{figures[name]:,} {word}" for name, word in
             (("in_hand", "in hand"), ("failed", "failed"), ("pending", "pending")) if 0 < figures[name] < figures["total"]]  # fmt: skip
    rest = "; " + ", ".join(parts) if parts else _end(figures)
    lines = [f"{stage:<10} {figures['done']:,} of {figures['total']:,} partitions{rows}{rest}"]
    if figures["partitions_per_minute"] and figures["done"] < figures["total"]:
        left = f"; about {_hours(figures['eta_s'] / 3600)} left" if figures["eta_s"] else ""
        pace = f"{figures['partitions_per_minute']:,.3g} partitions and {figures['rows_per_minute']:,.0f} rows a minute"
        lines.append(f"{'':<10} {pace}{left}")
    if figures.get("tokens_per_second"):
        lines.append(f"{'':<10} {figures['tokens_per_second']:,.0f} tokens/s a worker; its embedder waited for input "
                     f"{figures['waited_share']:.1%} of the time")  # fmt: skip
    return lines


def _end(figures: Result) -> str:
    """Of a stage of which nothing is pending: a load leaves the index as it is best for loading until it is finished."""
    if figures.get("finished") is None or figures["done"] < figures["total"]:
        return ""
    return (
        ", finished"
        if figures["finished"]
        else ", not finished: set for loading, not for searching (backhaul load CONF)"
    )


def _in_hand(holders: list[Result]) -> list[str]:
    lines = [f"{h['stage']} {h['partition'][:12]} by {h['host']}, process {h['pid']}, for {_hours(h['held_s'] / 3600)}; "
             f"last sign {_hours(h['last_sign_s'] / 3600)} ago" for h in holders[:_HOLDERS]]  # fmt: skip
    if len(holders) > _HOLDERS:
        lines.append(f"and {len(holders) - _HOLDERS:,} more")
    return [
        f"{'in hand' if first else '':<10} {line}"
        for first, line in zip([True] + [False] * len(lines), lines, strict=False)
    ]


def _at_most(r: Result) -> str:
    return "" if r["interruptions_exact"] else "at most "


def _again(r: Result) -> str:
    if not r["parts_recomputed"]:
        return "none of them again"
    lost = r["seconds_lost_at_most"]
    cost = "" if lost is None else f": at most {_hours(lost / 3600)} of work lost"
    return f"{r['parts_recomputed']:,} of them again{cost}"


def _on_demand(marks: list[Result]) -> list[str]:
    if not marks:
        return []
    named = ", ".join(mark["partition"][:12] for mark in marks[:_MARKS])
    return [f"on-demand  {_count(len(marks), 'partition')}, interrupted too often for spot capacity: {named}"
            f"{', …' if len(marks) > _MARKS else ''}"]  # fmt: skip


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _keys(example: Result) -> str:
    more = example["objects"] - len(example["keys"])
    return ", ".join(example["keys"]) + (f" and {more:,} more" if more > 0 else "")


def _and_more(group: Result) -> list[str]:
    more = group["count"] - len(group["examples"])
    return [f"    and {more:,} more"] if more > 0 else []


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1.5 else f"{hours:.1f} h"


def _done(r: Result) -> str:
    return f"{r['partitions'] - r['pending']:,} of {r['partitions']:,} partitions"


def _left(r: Result) -> str:
    failed = f", {r['failed']:,} of which failed (backhaul failures CONF)" if r["failed"] else ""
    return f"{r['pending']:,} left to the array's other children{failed}"


def _detail(gate: Result) -> str:
    return f": {gate['detail']}" if gate["detail"] else ""
