"""Remote embedders on stand-ins, with waits that suit a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.embed.backends import open_embedder
from pipelines.embed.remote_embedder import RemoteEmbedder
from pipelines.embed.settings import EmbedSettings
from tests.fixtures.embedding_services import OpenAi
from tests.fixtures.http_stand_in import serving

DIMENSIONS = 16


def http_settings(url: str, **remote: Any) -> EmbedSettings:
    values = {
        "model": "some-model",
        "url": f"{url}/v1",
        "dimensions": DIMENSIONS,
        "max_tokens": 512,
        "deadline_s": 20,
        **remote,
    }
    return EmbedSettings.model_validate({"backend": "http", "remote": values})


@contextmanager
def embedding(server: OpenAi, address: str | None = None, **remote: Any) -> Iterator[RemoteEmbedder]:
    with serving(server) as url:
        embedder = open_embedder(http_settings(address or url, **remote))
        assert isinstance(embedder, RemoteEmbedder)
        yield embedder
