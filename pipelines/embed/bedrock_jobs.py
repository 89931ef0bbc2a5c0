"""Batch inference of Amazon Bedrock: one JSON Lines file in, one out, a record per text, half the price.

Sources: Amazon Bedrock user guide, "Format and upload your batch inference data" and "View the results of a batch
inference job" (records, errors in a record's place, order not kept, manifest.json.out), API reference
"CreateModelInvocationJob"; at least 100 records a job is the default quota.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pipelines.embed.aws_service import CREDENTIALS, aws_client, refusals
from pipelines.embed.file_jobs import Found, Job
from pipelines.embed.on_bedrock import rows_of, shape_of
from pipelines.embed.remote_failures import Refused, short
from pipelines.embed.remote_settings import BATCH_RECORDS, RemoteSettings
from pipelines.embed.spent import Spent
from pipelines.errors import NotFound
from pipelines.space import Space
from pipelines.store import ObjectStore

_DONE = ("Completed", "PartiallyCompleted")
_FAILED = ("Failed", "Stopped", "Expired")
_REASONS = 3


class BedrockJobs:
    """A JobApi. ``store`` lies at embed.remote.batch.uri."""

    rounds: Sequence[int] = (BATCH_RECORDS[1],) * 2  # what fails twice is asked for by request, which says why
    files_fail_alone = False

    def __init__(self, settings: RemoteSettings, space: Space, store: ObjectStore) -> None:
        self._settings = settings
        self._space = space
        self._store = store
        self._shape = shape_of(settings.model)
        self.model = settings.endpoint or settings.model
        self._client = aws_client("bedrock", settings)
        self.name = f"Bedrock's batch inference of {self.model} in {self._client.meta.region_name}"
        self.key = CREDENTIALS
        self.least_records = settings.batch.min_records

    def put(self, folder: str, texts: Mapping[int, str], records_per_file: int) -> None:
        lines = [
            orjson.dumps({"recordId": _record_id(at), "modelInput": self._input(text)}) for at, text in texts.items()
        ]
        self._store.put(f"{folder}/input.jsonl", b"\n".join(lines) + b"\n")

    def start(self, name: str, folder: str) -> Job:
        batch = self._settings.batch
        uri = self._store.uri.rstrip("/")
        with refusals():
            # The token makes a repeated request answer with the job that the first one started.
            found = self._client.create_model_invocation_job(
                jobName=name, clientRequestToken=name, modelId=self.model, roleArn=batch.role_arn,
                inputDataConfig={"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{uri}/{folder}/input.jsonl"}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"{uri}/{folder}/out/"}},
                timeoutDurationInHours=min(168, max(24, round(batch.timeout_h))))  # fmt: skip
        return Job(found["jobArn"], name, "running")

    def find(self, prefix: str) -> list[Job]:
        with refusals():
            found = self._client.list_model_invocation_jobs(nameContains=prefix, sortBy="CreationTime",
                                                            sortOrder="Ascending")  # fmt: skip
        return [_job(one) for one in found["invocationJobSummaries"] if one["jobName"].startswith(prefix)]

    def look(self, job: Job) -> Job:
        with refusals():
            return _job(self._client.get_model_invocation_job(jobIdentifier=job.id))

    def read(self, folder: str, job: Job, texts: Mapping[int, str]) -> Found:
        output = f"{folder}/out/{job.id.rpartition('/')[2]}/"
        rows: dict[int, Any] = {}
        reasons: list[str] = []
        tokens = 0
        for listed in self._store.list(output):
            if listed.key.endswith(".jsonl.out"):
                for line in self._store.get(listed.key).splitlines():
                    tokens += self._take(line, texts, rows, reasons)
        told = self._manifest(f"{output}manifest.json.out")
        tokens = told if told is not None else tokens
        untold = int(not tokens and bool(rows))
        return Found(rows, Spent(requests=1, texts=len(rows), tokens=tokens, untold=untold), reasons[:_REASONS])

    def _take(self, line: bytes, texts: Mapping[int, str], rows: dict[int, Any], reasons: list[str]) -> int:
        """One record into ``rows`` or ``reasons``; the tokens that it says were billed."""
        try:
            record = orjson.loads(line)
            at, asked = int(record["recordId"]), record.get("modelInput")
        except (ValueError, TypeError, KeyError):
            reasons.append(f"a line is no record: {line[:80]!r}")
            return 0
        output = record.get("modelOutput")
        if at not in texts or (asked is not None and asked != self._input(texts[at])):
            reasons.append(f"record {record['recordId']} is not of this job")
            return 0
        if not isinstance(output, dict):
            reasons.append(short(str(record.get("error"))))
            return 0
        tokens = self._shape.tokens(output)
        try:
            rows[at] = rows_of(output, 1, self._shape)[0]
        except Refused as refused:
            reasons.append(str(refused.failure))
        return tokens if type(tokens) is int else 0

    def _manifest(self, key: str) -> int | None:
        try:
            found = orjson.loads(self._store.get(key)).get("inputTokenCount")
        except (NotFound, ValueError):
            return None
        return found if type(found) is int and found > 0 else None

    def _input(self, text: str) -> dict[str, Any]:
        return self._shape.request([text], "document", self._space)


def _record_id(number: int) -> str:
    """Eleven characters, as the guide has them."""
    return f"{number:011d}"


def _job(found: Mapping[str, Any]) -> Job:
    status = found["status"]
    phase = "done" if status in _DONE else "failed" if status in _FAILED else "running"
    return Job(found["jobArn"], found["jobName"], phase, found.get("message", ""))  # type: ignore[arg-type]
