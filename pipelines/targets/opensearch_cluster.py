"""One OpenSearch cluster over HTTP: address, credentials, retries, and its errors translated.

Stands on opensearch-py's transport and signer. Knows no index, mapping or row. No credential reaches a log.
"""

from __future__ import annotations

import logging
import os
from typing import Any
from urllib.parse import quote, urlsplit

import opensearchpy
import orjson
import urllib3
from opensearchpy.serializer import JSONSerializer

from pipelines.backoff import Backoff
from pipelines.errors import SettingsError, TargetError, TargetHalted
from pipelines.targets.opensearch_failures import (
    CERTIFICATE,
    NO_CONNECTION,
    TIMEOUT,
    UNREADABLE,
    Failure,
    Refused,
    advice_on,
    failure_of,
    may_pass,
)
from pipelines.targets.opensearch_pace import MOST_IN_FLIGHT
from pipelines.targets.target import IndexSettings

FIRST_ANSWER_S = 3.0
READ_S = 60.0
_CONNECT_S = 3.0
_CONNECTIONS = MOST_IN_FLIGHT + 2  # the watch, and whoever asks beside the load

log = logging.getLogger(__name__)


class Cluster:
    """Thread-safe. A cluster that never answered is given up after ``FIRST_ANSWER_S``; one that did is waited
    for until ``deadline_s``, as it may be restarting."""

    def __init__(self, settings: IndexSettings) -> None:
        if settings.url is None:
            raise SettingsError("index.url is missing; index.target opensearch needs it, such as https://host:9200")
        self.url = settings.url.rstrip("/")
        self.deadline_s = settings.deadline_s
        self._answered = False
        self._transport = _client(settings, self.url).transport

    def call(self, method: str, path: str, body: Any = None, *, params: dict[str, Any] | None = None,
             read_s: float = READ_S, deadline_s: float | None = None) -> Any:  # Any: JSON  # fmt: skip
        """The parsed answer; repeated while it may pass, so only for what may be sent twice.

        Raises:
            Refused: with the failure, at once for what no retry mends, at the deadline for what did not mend.
        """
        backoff = Backoff(min(deadline_s or self.deadline_s, self.deadline_s if self._answered else FIRST_ANSWER_S))
        while True:
            try:
                return self.once(method, path, body, params=params, read_s=read_s)
            except Refused as error:
                if not may_pass(error.failure) or not backoff.wait():
                    raise
                log.info("OpenSearch at %s: %s %s: %s; trying again", self.url, method, path, error.failure)

    def once(self, method: str, path: str, body: Any = None, *, params: dict[str, Any] | None = None,
             read_s: float = READ_S, content_type: str = "application/json") -> Any:  # fmt: skip
        """One try; the answer is JSON whatever the body is. Raises Refused."""
        headers = {"content-type": content_type, "accept": "application/json"}
        timeout = urllib3.Timeout(connect=_CONNECT_S, read=read_s)
        try:
            answer = self._transport.perform_request(
                method, path, headers=headers, params=params, body=body, timeout=timeout
            )
        except opensearchpy.SSLError as error:
            raise self.refused(Failure(None, CERTIFICATE, _cause(error))) from error
        except opensearchpy.ConnectionTimeout as error:
            raise self.refused(Failure(None, TIMEOUT, f"no answer in {read_s:.0f} s")) from error
        except opensearchpy.ConnectionError as error:
            raise self.refused(Failure(None, NO_CONNECTION, _cause(error))) from error
        except opensearchpy.TransportError as error:
            self._answered = True
            raise self.refused(_failure_of_answer(error)) from error
        except opensearchpy.SerializationError as error:
            raise self.refused(Failure(200, UNREADABLE, "the answer is not JSON; is this OpenSearch?")) from error
        self._answered = True
        return answer

    def refused(self, failure: Failure) -> Refused:
        return Refused(f"OpenSearch at {self.url}: {failure}; {advice_on(failure)}", failure)

    def error(self, message: str) -> TargetError:
        return TargetError(f"OpenSearch at {self.url}: {message}")

    def halted(self, message: str) -> TargetHalted:
        return TargetHalted(f"OpenSearch at {self.url}: {message}")


def segment(name: str) -> str:
    """``name`` as one segment of a path."""
    return quote(name, safe="")


class _Json(JSONSerializer):  # type: ignore[misc]
    """orjson both ways; bytes are sent as they are."""

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except orjson.JSONDecodeError as error:
            raise opensearchpy.SerializationError(s[:200], error) from error

    def dumps(self, data: Any) -> Any:
        return (
            data if isinstance(data, bytes | bytearray | str) else orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
        )


class _Connection(opensearchpy.Urllib3HttpConnection):  # type: ignore[misc]
    """Leaves the logging to us: the client's own prints every failed request, and decodes megabytes to do so.

    Leaves the answer of an error to us as well: the client's parser trips over JSON that is no object.
    """

    def _raise_error(self, status_code: int, raw_data: str | bytes, content_type: str | None = None) -> None:
        try:
            answer = orjson.loads(raw_data)
        except orjson.JSONDecodeError:
            answer = str(raw_data)
        raise opensearchpy.TransportError(status_code, "refused", answer)

    def log_request_success(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_request_fail(self, *args: Any, **kwargs: Any) -> None:
        pass


def _client(settings: IndexSettings, url: str) -> opensearchpy.OpenSearch:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise SettingsError("index.url holds a user name or password; set OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD "
                            "in the environment instead")  # fmt: skip
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"index.url {url!r} is not an address of OpenSearch; write https://host:9200")
    secure = parts.scheme == "https"
    host = {"host": parts.hostname, "port": parts.port or (443 if secure else 9200), "use_ssl": secure,
            "url_prefix": parts.path.strip("/")}  # fmt: skip
    tls = {"verify_certs": settings.verify_certs, "ca_certs": settings.ca_certs, "ssl_show_warn": False}
    if secure and not settings.verify_certs:
        log.warning("index.verify_certs is false: whoever answers at %s is believed", url)
    return opensearchpy.OpenSearch(
        hosts=[host],
        http_auth=_auth(settings),
        connection_class=_Connection,
        serializer=_Json(),
        max_retries=0,  # one retry policy: ours
        pool_maxsize=_CONNECTIONS,
        **(tls if secure else {}),
    )


def _auth(settings: IndexSettings) -> Any:  # Any: a signer or a pair, as opensearch-py takes them
    if settings.region:
        import boto3

        credentials = boto3.Session(region_name=settings.region).get_credentials()
        if credentials is None:
            raise SettingsError("index.region asks for signed requests and no AWS credentials were found; "
                                "set AWS_PROFILE or AWS_ACCESS_KEY_ID")  # fmt: skip
        return opensearchpy.Urllib3AWSV4SignerAuth(credentials, settings.region, settings.service)
    user, password = os.environ.get("OPENSEARCH_USERNAME"), os.environ.get("OPENSEARCH_PASSWORD")
    if bool(user) != bool(password):
        raise SettingsError("set both OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD, or neither")
    return (user, password) if user else None


def _failure_of_answer(error: opensearchpy.TransportError) -> Failure:
    status = error.status_code if isinstance(error.status_code, int) else None
    if not isinstance(error.info, dict):
        if str(error.info).lstrip().startswith("{"):  # as if it were JSON: what it said may be whole the next time
            return Failure(status, UNREADABLE, f"the answer breaks off: {str(error.info)[:100]}")
        return failure_of(status, error.info)
    return failure_of(status, error.info.get("error") or error.info.get("message") or error.info.get("Message"))


def _cause(error: opensearchpy.TransportError) -> str:
    """urllib3's words without object addresses."""
    text = str(error.info or error.error)
    return " ".join(text.rpartition(">: ")[2].split())[:300]
