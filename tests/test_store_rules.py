"""The commit rules and the retry policy, against an S3 server behind a proxy that misbehaves on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from pipelines.errors import Denied, NotFound, SettingsError, SourceChanged, StoreError
from pipelines.pages import hex_cuts
from pipelines.storage import s3_backend
from pipelines.store import BLOCK_BYTES, Created, ObjectStore, StorageSettings, open_store
from tests.fixtures.faulty_s3 import Fault, FaultyS3, faulty_s3
from tests.fixtures.s3 import CREDENTIALS, S3Server, aws_environment


@pytest.fixture
def faulty(s3_server: S3Server) -> Iterator[FaultyS3]:
    with faulty_s3(s3_server.endpoint, list_page=3) as proxy:
        yield proxy


@pytest.fixture
def store(s3_server: S3Server, faulty: FaultyS3) -> ObjectStore:
    storage = StorageSettings(endpoint=faulty.endpoint, region="us-east-1", deadline_s=30)
    return open_store(s3_server.new_bucket().uri, storage)


@pytest.fixture
def impatient(store: ObjectStore, faulty: FaultyS3) -> ObjectStore:
    """The same bucket, with a second's patience for an answer."""
    return open_store(store.uri, StorageSettings(endpoint=faulty.endpoint, region="us-east-1", timeout_s=1))


def puts(faulty: FaultyS3) -> int:
    return sum(method == "PUT" for method, _ in faulty.seen)


def test_a_create_that_meets_409_is_sent_again(store: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("PUT", "refuse", 409, "ConditionalRequestConflict")]
    assert store.create("r", b"mine") is Created.WON
    assert puts(faulty) == 2


def test_a_create_that_meets_409_after_another_won_loses(store: ObjectStore, faulty: FaultyS3) -> None:
    store.put("r", b"theirs")
    faulty.faults = [Fault("PUT", "refuse", 409, "ConditionalRequestConflict")]
    assert store.create("r", b"mine") is Created.LOST
    assert store.get("r") == b"theirs"


def test_a_create_whose_answer_was_lost_recognises_its_own_bytes(store: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("PUT", "lose")]
    assert store.create("r", b"mine") is Created.WON
    assert puts(faulty) == 1


def test_a_create_that_timed_out_reads_back(impatient: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("PUT", "hang")]
    assert impatient.create("r", b"mine") is Created.WON
    assert "GET" in {method for method, _ in faulty.seen}


def test_a_create_that_timed_out_against_another_winner_loses(impatient: ObjectStore, faulty: FaultyS3) -> None:
    impatient.put("r", b"theirs")
    faulty.faults = [Fault("PUT", "hang")]
    assert impatient.create("r", b"mine") is Created.LOST


def test_a_create_that_never_arrived_is_sent_again(store: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("PUT", "refuse", 503), Fault("PUT", "refuse", 500)]
    assert store.create("r", b"mine") is Created.WON
    assert puts(faulty) == 3


def test_a_create_whose_reading_back_fails_is_still_decided(store: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("PUT", "lose"), Fault("GET", "refuse", 503)]
    assert store.create("r", b"mine") is Created.WON


def test_nothing_is_ever_deleted_on_an_unknown_outcome(impatient: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("PUT", "lose"), Fault("PUT", "refuse", 409), Fault("PUT", "hang")]
    for key in ("a", "b", "c"):
        impatient.create(key, b"mine")
    assert {method for method, _ in faulty.seen} == {"PUT", "GET"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_refusal_that_may_pass_is_tried_again(store: ObjectStore, faulty: FaultyS3, status: int) -> None:
    faulty.faults = [Fault("PUT", "refuse", status), Fault("PUT", "refuse", status), Fault("GET", "refuse", status)]
    store.put("k", b"v")
    assert store.get("k") == b"v"
    assert not faulty.faults


@pytest.mark.parametrize("status", [400, 405, 413])
def test_a_refusal_that_will_not_pass_is_raised_at_once(store: ObjectStore, faulty: FaultyS3, status: int) -> None:
    faulty.faults = [Fault("PUT", "refuse", status, "Odd")]
    with pytest.raises(StoreError, match=rf"{store.uri}/k: the store refused \(.*{status}.*Odd"):
        store.put("k", b"v")
    assert puts(faulty) == 1


def test_denied_access_is_raised_at_once_by_every_verb(store: ObjectStore, faulty: FaultyS3) -> None:
    for method, verb in (
        ("PUT", lambda: store.put("k", b"v")),
        ("PUT", lambda: store.create("k", b"v")),
        ("GET", lambda: store.get("k")),
        ("GET", lambda: list(store.list("k"))),
        ("HEAD", lambda: store.head("k")),
        ("POST", lambda: store.delete(["k"])),
    ):
        faulty.faults = [Fault(method, "refuse", 403, "AccessDenied")]
        with pytest.raises(Denied, match=f"access to {store.uri}/k was denied .*check the credentials and policy"):
            verb()


def test_expired_credentials_are_told_from_a_bad_request(store: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("GET", "refuse", 400, "ExpiredToken")]
    with pytest.raises(Denied, match="the credentials have expired; renew them"):
        store.get("k")


def test_a_bucket_of_another_region_names_the_setting(store: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("GET", "refuse", 301, "PermanentRedirect")]
    with pytest.raises(StoreError, match=r"another region; set storage\.region"):
        store.get("k")


def test_a_missing_bucket_is_named_by_every_verb_but_head(s3_server: S3Server) -> None:
    store = open_store("s3://no-such-bucket/prefix", StorageSettings(endpoint=s3_server.endpoint))
    for verb in (
        lambda: store.put("k", b"v"),
        lambda: store.create("k", b"v"),
        lambda: store.get("k"),
        lambda: store.get("k", if_match='"etag"'),
        lambda: list(store.stream("k")),
        lambda: list(store.list()),
    ):
        with pytest.raises(NotFound, match="bucket s3://no-such-bucket does not exist; check its name"):
            verb()
    with pytest.raises(NotFound, match="s3://no-such-bucket/prefix/k does not exist"):
        store.head("k")  # the answer to HEAD has no body that could tell


def test_a_stream_resumes_at_the_byte_where_it_broke(store: ObjectStore, faulty: FaultyS3) -> None:
    data = bytes(range(251)) * (5 * BLOCK_BYTES // 251)
    store.put("big", data)
    faulty.faults = [Fault("GET", "truncate", keep=2 * BLOCK_BYTES + 7), Fault("GET", "refuse", 503),
                     Fault("GET", "truncate", keep=BLOCK_BYTES + 9)]  # fmt: skip
    assert b"".join(store.stream("big", start=11)) == data[11:]
    assert not faulty.faults


def test_a_stream_that_breaks_while_the_object_is_replaced_has_changed(store: ObjectStore, faulty: FaultyS3) -> None:
    store.put("big", b"a" * 4 * BLOCK_BYTES)
    faulty.faults = [Fault("GET", "truncate", keep=2 * BLOCK_BYTES + 7)]
    stream = store.stream("big")  # without if_match: the first answer's ETag holds
    next(stream)
    store.put("big", b"b" * 4 * BLOCK_BYTES)
    with pytest.raises(SourceChanged, match="plan again"):
        list(stream)


def test_a_truncated_get_is_read_again(store: ObjectStore, faulty: FaultyS3) -> None:
    store.put("k", b"x" * 1000)
    faulty.faults = [Fault("GET", "truncate", keep=10), Fault("GET", "lose")]
    assert store.get("k") == b"x" * 1000


def test_a_listing_goes_on_after_a_page_that_failed(store: ObjectStore, faulty: FaultyS3) -> None:
    names = [f"d/{number:02d} ü" for number in range(10)]
    for name in names:
        store.put(name, b"x")
    faulty.faults = [Fault("GET", "refuse", 503, after=1), Fault("GET", "lose", after=1),
                     Fault("GET", "truncate", keep=50)]  # fmt: skip
    assert [entry.key for entry in store.list("d/")] == names
    assert not faulty.faults


def test_a_listing_resumes_behind_the_pages_it_has_given(s3_server: S3Server, faulty: FaultyS3) -> None:
    storage = StorageSettings(endpoint=faulty.endpoint, region="us-east-1")
    bucket = s3_server.new_bucket().name
    store = ObjectStore(s3_backend(bucket, "root", storage), f"s3://{bucket}/root", listing_page=2)
    names = [f"d/{number:02d} ü" for number in range(9)]
    for name in names:
        store.put(name, b"x")
    listing = store.list("d/")
    found = [next(listing).key for _ in range(3)]
    faulty.faults = [Fault("GET", "refuse", 503), Fault("GET", "lose")]
    found += [entry.key for entry in listing]
    assert found == names
    assert not faulty.faults


@pytest.fixture
def ranged(s3_server: S3Server, faulty: FaultyS3) -> ObjectStore:
    """Sixteen receipts, one a range of ``hex_cuts``, and a store that lists two objects at a time."""
    bucket = s3_server.new_bucket().name
    storage = StorageSettings(endpoint=faulty.endpoint, region="us-east-1")
    store = ObjectStore(s3_backend(bucket, "root", storage), f"s3://{bucket}/root", listing_page=2)
    for name in RANGED:
        store.put(name, b"x")
    return store


RANGED = [f"d/{digit}{digit}" for digit in "0123456789abcdef"]


def test_each_range_of_keys_goes_on_where_it_broke_off(ranged: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("GET", "refuse", 503), Fault("GET", "lose", after=2), Fault("GET", "refuse", 500, after=3),
                     Fault("GET", "truncate", keep=50, after=4), Fault("GET", "lose", after=2)]  # fmt: skip
    found = [entry.key for entry in ranged.list("d/", cuts=hex_cuts("d"))]
    assert sorted(found) == RANGED
    assert not faulty.faults


def test_a_range_that_cannot_be_read_fails_the_listing(ranged: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("GET", "refuse", 403, "AccessDenied", after=5)]
    with pytest.raises(Denied, match=f"access to {ranged.uri}/d was denied"):
        list(ranged.list("d/", cuts=hex_cuts("d")))


def test_a_range_is_asked_for_no_further_than_its_end(ranged: ObjectStore, faulty: FaultyS3) -> None:
    faulty.seen.clear()
    list(ranged.list("d/", cuts=["d/8"]))
    # Pages of three: one that tells there is more, one or two for 1 to 8, three for 9 to f.
    assert len(faulty.seen) <= 1 + 3 + 3


def test_a_prefix_that_is_no_folder_costs_no_listing_of_its_folder(ranged: ObjectStore, faulty: FaultyS3) -> None:
    faulty.seen.clear()
    assert [entry.key for entry in ranged.list("d/7")] == ["d/77"]
    assert sum(method == "GET" for method, _ in faulty.seen) == 1


def test_what_still_fails_at_the_deadline_names_uri_and_cause(s3_server: S3Server, faulty: FaultyS3) -> None:
    uri = s3_server.new_bucket().uri
    store = open_store(uri, StorageSettings(endpoint=faulty.endpoint, deadline_s=0.5))
    faulty.faults = [Fault("GET", "refuse", 503, "SlowDown")] * 50
    with pytest.raises(StoreError, match=rf"{uri}/k could not be reached for 0\.5 s, \d+ tries \(.*503.*SlowDown"):
        store.get("k")


def test_a_server_that_is_not_there_is_named(s3_server: S3Server) -> None:
    store = open_store("s3://bucket", StorageSettings(endpoint="http://127.0.0.1:9", deadline_s=0.3))
    with pytest.raises(StoreError, match=r"s3://bucket/k could not be reached .*127\.0\.0\.1:9"):
        store.get("k")


def test_without_credentials_the_message_says_what_to_set(s3_server: S3Server) -> None:
    without = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
               "AWS_CONFIG_FILE": "/dev/null"}  # fmt: skip
    with aws_environment(without), pytest.raises(Denied, match=r"s3://bucket: no AWS credentials .*AWS_PROFILE"):
        open_store("s3://bucket", StorageSettings(endpoint=s3_server.endpoint))


def test_a_public_bucket_needs_no_credentials(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    for key, acl in (("k", "public-read"), ("secret", "private")):
        headers = {"x-amz-acl": acl, "Content-Type": "text/plain"}
        request = Request(f"{bucket.endpoint}/{bucket.name}/{key}", b"v", headers, method="PUT")
        urlopen(request, timeout=10).close()
    anonymous = bucket.storage.model_copy(update={"anonymous": True})
    with aws_environment({"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}):
        store = open_store(bucket.uri, anonymous)
        assert store.get("k") == b"v"
        with pytest.raises(Denied, match=r"access to s3://.*/secret was denied"):
            store.get("secret")


def test_a_profile_that_does_not_exist_is_named() -> None:
    with aws_environment({"AWS_PROFILE": "nobody-has-this"}), pytest.raises(Denied, match="nobody-has-this"):
        open_store("s3://bucket")


@pytest.fixture
def role(s3_server: S3Server, faulty: FaultyS3) -> Iterator[ObjectStore]:
    """A store that reaches S3 itself under a role of the STS behind the proxy."""
    role_arn = "arn:aws:iam::123456789012:role/reader"
    bucket = s3_server.new_bucket()
    with aws_environment({**CREDENTIALS, "AWS_ENDPOINT_URL_STS": faulty.endpoint}):
        yield open_store(bucket.uri, bucket.storage.model_copy(update={"role_arn": role_arn}))


def test_a_role_is_assumed_once_for_many_requests(role: ObjectStore, faulty: FaultyS3) -> None:
    role.put("k", b"v")
    assert role.get("k") == b"v"
    assert faulty.seen == [("POST", "/")]


def test_a_role_that_may_not_be_assumed_is_denied(role: ObjectStore, faulty: FaultyS3) -> None:
    faulty.faults = [Fault("POST", "refuse", 403, "AccessDenied")]
    with pytest.raises(Denied, match=rf"access to {role.uri}/k was denied \(.*AssumeRole"):
        role.get("k")


def test_a_prefix_that_cannot_be_is_a_settings_error(s3_server: S3Server) -> None:
    with pytest.raises(SettingsError, match="s3://bucket/a//b"):
        open_store("s3://bucket/a//b", StorageSettings(endpoint=s3_server.endpoint))


def test_moto_lies_it_overwrites_when_copying_if_none_match(s3_server: S3Server) -> None:
    # A known lie of the stand-in (a real S3 answers 412). The day this fails, moto has learned it.
    import boto3

    bucket = s3_server.new_bucket()
    client = boto3.client("s3", endpoint_url=bucket.endpoint)
    client.put_object(Bucket=bucket.name, Key="a", Body=b"a")
    client.put_object(Bucket=bucket.name, Key="b", Body=b"b")
    client.meta.events.register(
        "before-sign.s3.CopyObject", lambda request, **_: request.headers.add_header("If-None-Match", "*")
    )
    client.copy_object(Bucket=bucket.name, Key="b", CopySource=f"{bucket.name}/a")
    assert client.get_object(Bucket=bucket.name, Key="b")["Body"].read() == b"a"
