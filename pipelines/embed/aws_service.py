"""Clients of AWS services for embedding, and what their errors say. Knows no model and no operation.

One retry policy: ours, so boto3's is off. Credentials come from the AWS chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.embed.on_http import retry_after
from pipelines.embed.remote_failures import (
    BROKEN,
    CERTIFICATE,
    NO_CONNECTION,
    NO_CREDENTIALS,
    TIMEOUT,
    Failure,
    Refused,
    short,
)
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.errors import SettingsError

_CONNECT_S = 10.0
CREDENTIALS = "the AWS credentials (AWS_PROFILE or AWS_ACCESS_KEY_ID)"


def aws_client(service: str, settings: RemoteSettings, *, url: str | None = None) -> Any:  # Any: boto3 makes classes
    """A client for many threads. ``url``: another endpoint than AWS's own, or the one that the AWS chain names.

    Raises:
        SettingsError: no region is known, or the profile does not exist.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=_CONNECT_S,
                    read_timeout=settings.timeout_s, max_pool_connections=settings.max_in_flight)  # fmt: skip
    try:
        session = boto3.Session(region_name=settings.region)
        return session.client(service, endpoint_url=url, config=config)  # type: ignore[call-overload]
    except BotoCoreError as error:
        raise SettingsError(f"embed.remote: no client for {service} ({error}); set embed.remote.region, or AWS_PROFILE to a "
                            "profile that exists") from error  # fmt: skip


@contextmanager
def refusals() -> Iterator[None]:
    """botocore's errors within the block become Refused."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    try:
        yield
    except boto.ClientError as error:
        raise Refused(_failure_of(error.response)) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError,
            boto.TokenRetrievalError, boto.SSOError) as error:  # fmt: skip
        raise Refused(Failure(None, NO_CREDENTIALS, short(str(error)))) from error
    except boto.SSLError as error:
        raise Refused(Failure(None, CERTIFICATE, short(str(error)))) from error
    except boto.ReadTimeoutError as error:
        raise Refused(Failure(None, TIMEOUT, "no answer in time")) from error
    except (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError) as error:
        raise Refused(Failure(None, NO_CONNECTION, short(str(error)))) from error
    except (boto.HTTPClientError, boto.ResponseStreamingError, boto.IncompleteReadError,
            ResponseParserError) as error:  # fmt: skip
        raise Refused(Failure(None, BROKEN, short(str(error)))) from error


def _failure_of(response: Any) -> Failure:  # Any: botocore's dict
    error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    status = about.get("HTTPStatusCode")
    code, reason = str(error.get("Code") or f"http_{status}"), str(error.get("Message") or "")
    if code == "ModelError":  # SageMaker: what the container said is what counts
        status, reason = response.get("OriginalStatusCode") or status, f"{response.get('OriginalMessage') or reason}"
    return Failure(status, code, short(reason), retry_after(about.get("HTTPHeaders", {})))
