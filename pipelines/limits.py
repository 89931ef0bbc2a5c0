"""What a run may lose, checked against what it lost. Knows totals, and receipts by what they say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import GateRefused
from pipelines.ledger import worst
from pipelines.rejects import OF_CHUNKS
from pipelines.store import Store

_SOURCES = 5


class LimitsSettings(BaseModel):
    """Shares are fractions of the whole run: of records, of tokens. Null: report only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_reject_share: float = Field(0.01, ge=0, le=1, description="largest share of records that may be rejected")
    max_truncated_share: float | None = Field(
        None, ge=0, le=1, description="largest share of tokens that the model's limit may cut off; null: report only"
    )
    max_empty_share: float | None = Field(
        None, ge=0, le=1, description="largest share of records whose text may be empty or nothing but whitespace (they are "
        "rejects, too); null: as `max_reject_share` has it")  # fmt: skip
    max_not_text_share: float | None = Field(
        None, ge=0, le=1, description="largest share of records that may be binary, of another encoding than UTF-8 or of "
        "another type than text (they are rejects, too); null: as `max_reject_share` has it")  # fmt: skip
    max_bad_vectors: int = Field(
        0, ge=0, description="vectors of the run that may be NaN or zero; their rows are rejected"
    )


def check_limits(totals: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], limits: LimitsSettings,
                 store: Store, run_id: str) -> None:  # fmt: skip
    """
    Args:
        totals: of the manifest.
        receipts: of all partitions, in plan order.

    Raises:
        GateRefused: bad vectors, rejects or truncation go over a limit; it names the causes and the worst sources.
    """
    run = f"{store.uri}/runs/{run_id}"
    _check_vectors(totals["ledger"], receipts, limits.max_bad_vectors, run)
    _check_texts(totals, limits.max_empty_share, "max_empty_share", ("empty", "whitespace"))
    _check_texts(totals, limits.max_not_text_share, "max_not_text_share", ("not_text",))
    _check_rejects(totals, receipts, limits.max_reject_share, run)
    _check_truncation(totals["ledger"], limits.max_truncated_share)


def _check_vectors(ledger: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], limit: int, run: str) -> None:
    bad = ledger["nan_vectors"] + ledger["zero_vectors"]
    if bad <= limit:
        return
    first = next(r["partition"] for r in receipts if r["ledger"]["nan_vectors"] + r["ledger"]["zero_vectors"])
    raise GateRefused(
        f"the embedder gave {ledger['nan_vectors']} vectors with NaN or infinity and {ledger['zero_vectors']} zero "
        f"ones, {bad} in all{_worst(ledger, 'nan_vectors', 'zero_vectors')}; limits.max_bad_vectors is {limit}. "
        "`backhaul failures CONF` names their documents. Check the model; raise the limit to leave such rows out; or, where "
        f"a machine was at fault, delete the receipts (the first is {run}/receipts/embed/{first}.json) and run the same "
        "command again."
    )


def _check_texts(totals: Mapping[str, Any], limit: float | None, name: str, kinds: Sequence[str]) -> None:
    ledger, records = totals["ledger"], totals["records"]
    found = sum(ledger[kind] for kind in kinds)
    if limit is None or found <= limit * records:
        return
    what = ", ".join(f"{ledger[kind]} {kind.replace('_', ' ')}" for kind in kinds)
    raise GateRefused(
        f"the texts of {found} of {records} records cannot be embedded ({what}), over limits.{name} "
        f"{limit:.1%}{_worst(ledger, *kinds)}. `backhaul failures CONF` says where they are. Mend the source and plan "
        "again, or raise the limit and run the same command again."
    )


def _check_rejects(totals: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], limit: float, run: str) -> None:
    records, chunks = totals["records"], totals["ledger"]["chunks"]
    lost = sum(totals["rejects"].get(cause, 0) for cause in OF_CHUNKS)
    rejected = sum(totals["rejects"].values()) - lost
    share = max(rejected / max(1, records), lost / max(1, chunks))
    if share <= limit:
        return
    causes = ", ".join(f"{cause} {count}" for cause, count in sorted(totals["rejects"].items()))
    files = [f"{run}/{r['rejects']['file']}" for r in receipts if r["rejects"]["file"]]
    raise GateRefused(
        f"{rejected} of {records} records{f' and {lost} of {chunks} chunks' if lost else ''} were rejected "
        f"({share:.1%}), over limits.max_reject_share {limit:.1%}: {causes}{_worst(totals['ledger'], 'rejected')}. They "
        f"are kept in {files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}; `backhaul failures CONF` groups "
        "them. Mend the source and plan again, or raise the limit and run the same command again."
    )


def _check_truncation(ledger: Mapping[str, Any], limit: float | None) -> None:
    lost, tokens = ledger["truncated_tokens"], ledger["tokens"]
    if limit is None or not tokens or lost / tokens <= limit:
        return
    raise GateRefused(
        f"{lost} of {tokens} tokens were cut off by the model's limit, over limits.max_truncated_share "
        f"{limit:.1%}{_worst(ledger, 'truncated_tokens')}. Split shorter (split.method: tokens), or raise the limit."
    )


def _worst(ledger: Mapping[str, Any], *kinds: str) -> str:
    """The sources that lost most of these kinds together; nothing where older receipts alone tell of it."""
    found: Counter[str] = Counter()
    for kind in kinds:
        by_source = (
            ledger["truncated_by_source"] if kind == "truncated_tokens" else ledger["lost_by_source"].get(kind, {})
        )
        found.update(by_source)
    if not found:
        return ""
    return "; most of them from " + ", ".join(
        f"{key} ({count})" for key, count in list(worst(found).items())[:_SOURCES]
    )
