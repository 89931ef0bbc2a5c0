"""Batch transform of SageMaker: JSON Lines files in, one out for each, a record per line.

A record that the container refuses costs its file its output, and the others none: so what is missing is sent again
in smaller files, and in the end alone. Sources: SageMaker developer guide, "Use batch transform" (a bad record, its
file, and the other files) and "Associate prediction results with input records" (JoinSource, SageMakerOutput).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from pipelines.embed.aws_service import CREDENTIALS, aws_client, refusals
from pipelines.embed.file_jobs import Found, Job
from pipelines.embed.on_sagemaker import rows_of
from pipelines.embed.remote_failures import Refused
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.embed.spent import Spent
from pipelines.space import Space
from pipelines.store import ObjectStore

_RECORDS_PER_FILE = (512, 16, 1)
_MOST_CONCURRENT = 64
_REASONS = 3


class SageMakerJobs:
    """A JobApi. ``store`` lies at embed.remote.batch.uri."""

    rounds: Sequence[int] = _RECORDS_PER_FILE
    files_fail_alone = True
    least_records = 1

    def __init__(self, settings: RemoteSettings, space: Space, store: ObjectStore) -> None:
        assert settings.batch.model_name is not None
        self._settings = settings
        self._store = store
        self.model = settings.batch.model_name
        self._client = aws_client("sagemaker", settings)
        self.name = f"SageMaker's batch transform of {self.model} in {self._client.meta.region_name}"
        self.key = CREDENTIALS

    def put(self, folder: str, texts: Mapping[int, str], records_per_file: int) -> None:
        lines = (orjson.dumps({"recordId": at, "request": _request(text)}) for at, text in texts.items())
        for number, part in enumerate(_batched(lines, records_per_file)):
            self._store.put(f"{folder}/in/{number:06d}.jsonl", b"\n".join(part) + b"\n")

    def start(self, name: str, folder: str) -> Job:
        batch, uri = self._settings.batch, self._store.uri.rstrip("/")
        try:
            with refusals():
                self._client.create_transform_job(
                    TransformJobName=name, ModelName=self.model, BatchStrategy="SingleRecord", MaxPayloadInMB=1,
                    MaxConcurrentTransforms=min(_MOST_CONCURRENT, self._settings.max_in_flight),
                    TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{uri}/{folder}/in/"}},
                                    "ContentType": "application/json", "SplitType": "Line"},
                    TransformOutput={"S3OutputPath": f"{uri}/{folder}/out/{name}", "Accept": "application/json",
                                     "AssembleWith": "Line"},
                    TransformResources={"InstanceType": batch.instance_type, "InstanceCount": batch.instance_count},
                    DataProcessing={"InputFilter": "$.request", "JoinSource": "Input",
                                    "OutputFilter": "$['recordId','request','SageMakerOutput']"})  # fmt: skip
        except Refused as refused:
            if refused.failure.type != "ResourceInUse":  # our own request, whose answer was lost
                raise
        return Job(name, name, "running")

    def find(self, prefix: str) -> list[Job]:
        with refusals():
            found = self._client.list_transform_jobs(NameContains=prefix, SortBy="CreationTime", SortOrder="Ascending")
        return [_job(one) for one in found["TransformJobSummaries"] if one["TransformJobName"].startswith(prefix)]

    def look(self, job: Job) -> Job:
        with refusals():
            return _job(self._client.describe_transform_job(TransformJobName=job.id))

    def read(self, folder: str, job: Job, texts: Mapping[int, str]) -> Found:
        rows: dict[int, Any] = {}
        reasons = [job.reason] if job.reason else []
        for listed in self._store.list(f"{folder}/out/{job.name}/"):
            for line in self._store.get(listed.key).splitlines():
                _take(line, texts, rows, reasons)
        return Found(rows, Spent(requests=1, texts=len(rows), untold=int(bool(rows))), reasons[:_REASONS])


def _take(line: bytes, texts: Mapping[int, str], rows: dict[int, Any], reasons: list[str]) -> None:
    try:
        record = orjson.loads(line)
        at, asked = int(record["recordId"]), record["request"]
    except (ValueError, TypeError, KeyError):
        reasons.append(f"a line is no record: {line[:80]!r}")
        return
    if at not in texts or asked != _request(texts[at]):
        reasons.append(f"record {at} is not of this job")
        return
    try:
        rows[at] = rows_of(record.get("SageMakerOutput"), 1)[0]
    except Refused as refused:
        reasons.append(str(refused.failure))


def _request(text: str) -> dict[str, Any]:
    return {"inputs": [text]}


def _batched(lines: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while batch := list(islice(lines, size)):
        yield batch


def _job(found: Mapping[str, Any]) -> Job:
    status = found["TransformJobStatus"]
    phase = "done" if status == "Completed" else "failed" if status in ("Failed", "Stopped") else "running"
    name = found["TransformJobName"]
    return Job(name, name, phase, found.get("FailureReason", ""))  # type: ignore[arg-type]
