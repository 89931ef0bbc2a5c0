"""Open a remote embedder: which service speaks for which backend, and whether it runs the model that it is said to."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.embed.embedder import Role, Tokenizer
from pipelines.embed.file_jobs import FileJobs
from pipelines.embed.remote_agreement import compare_with_own
from pipelines.embed.remote_embedder import RemoteEmbedder
from pipelines.embed.remote_models import remote_space, remote_tokenizer
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.embed.service import Jobs, Service
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.spent import Account
from pipelines.space import RequestedMaker, Space
from pipelines.storage import StorageSettings
from pipelines.store import open_store


def open_remote(settings: EmbedSettings, requested: RequestedMaker, storage: StorageSettings | None) -> RemoteEmbedder:
    """Ask the service for one vector, and compare it with the model's own where that is cheap.

    Raises:
        EmbedderHalted: the service refuses or does not answer.
        GateRefused: it gives other vectors than declared.
    """
    remote, space, account = settings.remote, remote_space(settings, storage), Account()
    assert remote is not None
    roles: tuple[Role, ...] = ("document", "query")
    tokenizers: dict[Role, Tokenizer] = {role: remote_tokenizer(settings, storage, role) for role in roles}
    service = _SERVICES[settings.backend](remote, space)
    embedder = RemoteEmbedder(service, remote, space, requested, tokenizers, _jobs(settings, space, storage, account),
                              account)  # fmt: skip
    if remote.serves_model:
        embedder.compared = compare_with_own(embedder, settings, storage)
    return embedder


def _http(settings: RemoteSettings, space: Space) -> Service:
    from pipelines.embed.on_http import HttpService

    return HttpService(settings, space.dimensions)


def _bedrock(settings: RemoteSettings, space: Space) -> Service:
    from pipelines.embed.on_bedrock import BedrockService

    return BedrockService(settings, space)


def _sagemaker(settings: RemoteSettings, space: Space) -> Service:
    from pipelines.embed.on_sagemaker import SageMakerService

    return SageMakerService(settings, space)


def _jobs(settings: EmbedSettings, space: Space, storage: StorageSettings | None, account: Account) -> Jobs | None:
    remote = settings.remote
    assert remote is not None
    if remote.batch.uri is None:
        return None
    from pipelines.embed.bedrock_jobs import BedrockJobs
    from pipelines.embed.sagemaker_jobs import SageMakerJobs

    api = BedrockJobs if settings.backend == "bedrock" else SageMakerJobs
    jobs = api(remote, space, open_store(remote.batch.uri, storage))
    return FileJobs(jobs, remote.batch, space.dimensions, account, deadline_s=remote.deadline_s)


_SERVICES: dict[str, Callable[[RemoteSettings, Space], Service]] = {
    "http": _http,
    "bedrock": _bedrock,
    "sagemaker": _sagemaker,
}
