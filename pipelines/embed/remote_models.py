"""The Space, the Maker and the tokenizers of a model behind a service: as declared, or those of the model that the
service runs and whose files are here. Asks no service."""

from __future__ import annotations

from pipelines.embed.embedder import Role, Tokenizer
from pipelines.embed.models import Model, file_digest, resolve_model
from pipelines.embed.references import locate
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import ApproximateTokenizer, ModelTokenizer
from pipelines.errors import SettingsError
from pipelines.space import RequestedMaker, Space
from pipelines.storage import StorageSettings


def remote_space(settings: EmbedSettings, storage: StorageSettings | None) -> Space:
    """Of a declared model ``weights`` are no digest but say whose model it is; ``pooling`` is the service's own."""
    remote = settings.remote
    assert remote is not None
    if remote.serves_model:
        return _served(settings, storage).space
    assert remote.dimensions is not None
    assert remote.max_tokens is not None
    return Space(
        weights=f"declared {settings.backend}:{remote.model}" + (f"@{remote.revision}" if remote.revision else ""),
        tokenizer=remote_tokenizer(settings, storage, "document").digest,
        pooling="the service's own",
        query_prompt=remote.query_prompt,
        document_prompt=remote.document_prompt,
        normalized=remote.normalized,
        max_tokens=remote.max_tokens,
        dimensions=remote.dimensions,
    )


def remote_maker(settings: EmbedSettings) -> RequestedMaker:
    """Precision, threads and batches are the service's own: none of ours decides a vector."""
    return RequestedMaker(settings.backend, "the service's own", 0, 0)


def remote_tokenizer(settings: EmbedSettings, storage: StorageSettings | None, role: Role) -> Tokenizer:
    """What counts the tokens of what would be sent, prompt included."""
    remote = settings.remote
    assert remote is not None
    if remote.serves_model:
        model = _served(settings, storage)
        prompt = model.space.query_prompt if role == "query" else model.space.document_prompt
        return ModelTokenizer(model.tokenizer, model.space.tokenizer, prompt)
    prompt = remote.query_prompt if role == "query" else remote.document_prompt
    if remote.tokenizer is None:
        return ApproximateTokenizer(prompt)
    file = locate(remote.tokenizer, storage, "embed.remote.tokenizer")
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise SettingsError(
            f"embed.remote.tokenizer: {remote.tokenizer} holds no tokenizer.json; name a folder that does"
        )
    return ModelTokenizer(file, file_digest(file, remote.tokenizer), prompt)


def _served(settings: EmbedSettings, storage: StorageSettings | None) -> Model:
    return resolve_model(settings.model, digest=settings.digest, storage=storage)
