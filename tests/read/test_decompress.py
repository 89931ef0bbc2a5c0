"""Compressed objects: several members, damage, and what is read before it."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.read.decompress import Damaged, decompress, stem
from pipelines.read.reader import Record
from tests.read.objects import causes, json_lines, read_bytes, source

Compress = Callable[[bytes], bytes]
JSONL = source("jsonl")
# Not repetitive: a zstd stream then has blocks enough that some are whole before the damage.
ROWS = json_lines({"id": n, "text": str(n * 7919 % 1_000_003)} for n in range(30_000))


@pytest.fixture(params=["gz", "zst"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def compress(suffix: str) -> Compress:
    # With its checksum, which the zstd command writes and the library does not by default.
    return gzip.compress if suffix == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress


def cause(suffix: str) -> str:
    return {"gz": "corrupt_gzip", "zst": "corrupt_zstd"}[suffix]


def test_members_written_one_after_another_are_one_object(suffix: str, compress: Compress) -> None:
    data = compress(ROWS[:1000]) + compress(b"") + compress(ROWS[1000:])
    found = read_bytes(JSONL, f"a.{suffix}", data)
    assert found == read_bytes(JSONL, f"a.{suffix}", compress(ROWS))
    assert len(found) == 30_000


def test_padding_behind_a_gzip_is_no_damage() -> None:
    assert causes(read_bytes(JSONL, "a.gz", gzip.compress(b"{}\n") + b"\0" * 512)) == ["ok"]


def test_garbage_behind_the_end_is_one_reject_after_every_record(suffix: str, compress: Compress) -> None:
    found = read_bytes(JSONL, f"a.{suffix}", compress(ROWS.rstrip(b"\n")) + b"no such thing")
    assert causes(found) == ["ok"] * 30_000 + [cause(suffix)]
    assert "followed by bytes that are not" in found[-1].reason  # type: ignore[union-attr]


def test_a_truncated_object_is_one_reject_after_the_records_before(suffix: str, compress: Compress) -> None:
    data = compress(ROWS)
    found = read_bytes(JSONL, f"a.{suffix}", data[: len(data) // 2])
    good = causes(found).count("ok")
    assert causes(found) == ["ok"] * good + [cause(suffix)]
    assert good > 5_000
    assert "ends early" in found[-1].reason  # type: ignore[union-attr]


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_missing_last_byte_is_noticed(suffix: str, compress: Compress, missing: int) -> None:
    if suffix == "zst" and missing > 4:
        return  # then the checksum is gone, and part of the last block
    found = read_bytes(JSONL, f"a.{suffix}", compress(b"{}\n")[:-missing])
    assert causes(found)[-1] == cause(suffix)


def test_a_wrong_checksum_says_that_records_may_be_wrong(suffix: str, compress: Compress) -> None:
    data = bytearray(compress(ROWS))
    data[-5 if suffix == "gz" else -1] ^= 1
    found = read_bytes(JSONL, f"a.{suffix}", bytes(data))
    assert causes(found)[-1] == cause(suffix)
    assert "checksum" in found[-1].reason  # type: ignore[union-attr]


def test_the_records_of_a_small_gzip_are_read_before_its_checksum_fails() -> None:
    data = bytearray(gzip.compress(b'{"id": 1}\n' * 100))
    data[-5] ^= 1
    assert causes(read_bytes(JSONL, "a.gz", bytes(data))) == ["ok"] * 100 + ["corrupt_gzip"]


def test_a_second_member_that_ends_early_is_noticed(suffix: str, compress: Compress) -> None:
    data = compress(b"{}\n" * 10) + compress(ROWS)[:-10_000]
    found = causes(read_bytes(JSONL, f"a.{suffix}", data))
    assert found[:10] == ["ok"] * 10
    assert found[-1] == cause(suffix)


def test_damage_in_the_middle_keeps_the_records_before(suffix: str, compress: Compress) -> None:
    data = bytearray(compress(ROWS))
    middle = len(data) // 2
    data[middle : middle + 64] = b"\xff" * 64
    found = read_bytes(JSONL, f"a.{suffix}", bytes(data))
    assert causes(found)[:5_000] == ["ok"] * 5_000
    assert causes(found).count(cause(suffix)) == 1
    assert causes(found)[-1] == cause(suffix)


def test_an_empty_compressed_object_is_damaged(suffix: str) -> None:
    assert causes(read_bytes(JSONL, f"a.{suffix}", b"")) == [cause(suffix)]


def test_a_plain_object_named_as_compressed_is_damaged(suffix: str) -> None:
    assert causes(read_bytes(JSONL, f"a.{suffix}", b'{"id": 1}\n')) == [cause(suffix)]


def test_a_record_over_the_limit_is_passed_over_in_a_compressed_object(suffix: str, compress: Compress) -> None:
    data = compress(b'{"t": "%s"}\n{"id": 2}\n' % (b"x" * 30_000_000))
    found = read_bytes(source(max_document_bytes=1024), f"a.{suffix}", data)
    assert causes(found) == ["too_large", "ok"]
    assert isinstance(found[1], Record)
    assert found[1].position.offset == 30_000_010


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=2000), size=st.integers(1, 100), suffix=st.sampled_from(["gz", "zst"]))
def test_decompression_does_not_depend_on_the_blocks(data: bytes, size: int, suffix: str) -> None:
    packed = gzip.compress(data) if suffix == "gz" else zstandard.compress(data)
    blocks = (packed[at : at + size] for at in range(0, len(packed), size))
    assert b"".join(decompress(f"a.{suffix}", blocks)) == data


@pytest.mark.parametrize("size", [1 << 18, 1 << 19, 12_345_678])
def test_no_output_block_is_much_larger_than_another(suffix: str, compress: Compress, size: int) -> None:
    sizes = [len(block) for block in decompress(f"a.{suffix}", iter([compress(b"x" * size)]))]
    assert sum(sizes) == size
    assert max(sizes) <= (1 << 18 if suffix == "gz" else 17 << 20)


def test_the_offset_of_damage_counts_decompressed_bytes() -> None:
    blocks = decompress("a.gz", iter([gzip.compress(b"x" * 1000)[:-8]]))
    assert next(blocks) == b"x" * 1000
    with pytest.raises(Damaged) as caught:
        next(blocks)
    assert caught.value.offset == 1000


@pytest.mark.parametrize("key", ["a/guide.md", "guide.md.gz", "guide.MD.ZST", "guide"])
def test_the_stem_leaves_folder_and_suffixes_out(key: str) -> None:
    assert stem(key) == "guide"
