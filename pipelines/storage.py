"""How to reach an object store: its settings, and an S3 backend with credentials of the AWS chain.

Knows nothing of keys, retries or what is stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

from obstore.store import S3Store
from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import Denied, SettingsError

# boto renews temporary credentials ten minutes before they end, and obstore asks again five minutes before
# this: what is handed over is never held beyond its life (obstore's own default is 30 minutes).
_CREDENTIALS_TTL = timedelta(minutes=10)


class StorageSettings(BaseModel):
    """How to reach an object store. Credentials come from the AWS chain, never from here.

    ``timeout_s`` bounds the silence of one request, ``deadline_s`` all the tries of one operation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str | None = Field(None, description="AWS region; null: AWS_REGION, else us-east-1")
    endpoint: str | None = Field(
        None, description="another S3 API than AWS; null: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL"
    )
    role_arn: str | None = Field(None, description="role to assume")
    requester_pays: bool = Field(False, description="we pay for the requests")
    anonymous: bool = Field(False, description="send no credentials, for a public bucket")
    timeout_s: float = Field(20.0, gt=0, description="seconds of silence after which a request is given up")
    deadline_s: float = Field(60.0, gt=0, description="seconds that one operation may take with all its tries")


def s3_backend(bucket: str, prefix: str, settings: StorageSettings) -> S3Store:
    """The obstore backend of ``bucket`` below ``prefix``; nothing is asked of the server yet.

    Raises:
        Denied: no credentials were found, or the named profile does not exist.
        SettingsError: the prefix or endpoint cannot be used.
    """
    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    config: dict[str, Any] = {"region": region, "virtual_hosted_style_request": endpoint is None}
    if endpoint:
        config["endpoint"] = endpoint
    if settings.requester_pays:
        config["request_payer"] = True
    if settings.anonymous:
        config["skip_signature"] = True
    uri = f"s3://{bucket}/{prefix}".rstrip("/")
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": f"{min(5.0, settings.timeout_s) * 1000:.0f}ms",
                "read_timeout": f"{settings.timeout_s * 1000:.0f}ms",
                # Runs while a slow consumer leaves a stream unread, too: a stream that it ends is resumed.
                "timeout": "600s",
            },
            # One retry policy: ours. obstore's own would hide how often a conditional put was sent.
            retry_config={"max_retries": 0},
            credential_provider=None if settings.anonymous else aws_credentials(settings, region, uri),
            **config,
        )
    except ValueError as error:
        raise SettingsError(f"{uri}: {str(error).splitlines()[0]}; write s3://bucket/prefix") from error


def aws_credentials(settings: StorageSettings, region: str, uri: str) -> Any:  # Any: boto3 is untyped at this border
    """A provider of credentials by the AWS chain: called, it answers access_key_id, secret_access_key, token and
    expires_at. Raises Denied when there are none."""
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session(region_name=region)
        found = session.get_credentials()
    except BotoCoreError as error:
        raise Denied(f"{uri}: no AWS credentials could be had ({error}); check AWS_PROFILE") from error
    if found is None:
        raise Denied(
            f"{uri}: no AWS credentials were found; set AWS_PROFILE or AWS_ACCESS_KEY_ID, "
            "or storage.anonymous: true for a public bucket"
        )
    if settings.role_arn:
        return _assumed_role(session, settings.role_arn)
    return Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL)


def _assumed_role(session: Any, role_arn: str) -> Callable[[], dict[str, Any]]:
    """Credentials of a role, asked for anew before they end.

    Not obstore's StsCredentialProvider: its expiry has botocore's own time zone class, which obstore 0.12 refuses.
    """

    def assume_role() -> dict[str, Any]:
        found = session.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="backhaul")["Credentials"]
        return {
            "access_key_id": found["AccessKeyId"],
            "secret_access_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expires_at": found["Expiration"].astimezone(UTC),
        }

    return assume_role
