"""What an attempt spent its time on: measured apart, kept beside the run, and never needed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from pipelines.embed.timing import Stopwatch, Timings
from pipelines.errors import Denied, NotFound
from pipelines.store import ObjectStore, open_store


@pytest.fixture
def store() -> ObjectStore:
    return open_store(f"memory://{uuid.uuid4().hex}", create=True)


def test_waiting_and_computing_are_measured_apart() -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.02)
            yield i

    watch, seen = Stopwatch(), []
    for item in watch.waiting(slow()):
        with watch.computing():
            time.sleep(0.04)
        time.sleep(0.01)
        seen.append(item)
    assert seen == [0, 1, 2]
    assert 0.06 <= watch.waited_s < 0.11
    assert 0.12 <= watch.computing_s < 0.18
    assert watch.elapsed_s >= watch.waited_s + watch.computing_s + 0.03


def compute_in_vain(watch: Stopwatch) -> None:
    with watch.computing():
        time.sleep(0.02)
        raise ValueError("no")


def test_an_error_of_the_input_or_of_the_embedder_goes_through_and_its_time_counts() -> None:
    def broken() -> Iterator[int]:
        time.sleep(0.02)
        raise NotFound("gone")
        yield 0

    watch = Stopwatch()
    with pytest.raises(NotFound):
        list(watch.waiting(broken()))
    with pytest.raises(ValueError, match="no"):
        compute_in_vain(watch)
    assert watch.waited_s >= 0.02
    assert watch.computing_s >= 0.02


def test_what_is_kept_is_read_back_by_partition_and_in_all(store: ObjectStore) -> None:
    timings = Timings(store, "r", hardware="cpu", load_s=1.5)
    for number in range(10):
        watch = Stopwatch()
        watch.part(tokens=number, rows=1)
        watch.part(tokens=1, rows=2)
        timings.keep(f"{number:x}0", watch)
    Timings(store, "r").keep("00", Stopwatch())  # another attempt
    (kept,) = Timings(store, "r").of(["70"])
    assert (kept.partition, kept.hardware, kept.load_s, kept.tokens, kept.rows, kept.parts) == (
        "70",
        "cpu",
        1.5,
        8,
        3,
        2,
    )
    assert [timing.partition for timing in timings.of(["00"])] == ["00", "00"]
    sample, attempts = timings.sample(100)
    assert (len(sample), attempts, len({timing.worker for timing in sample})) == (11, 11, 2)
    assert len(timings.sample(4)[0]) == 4
    assert timings.of(["ff"]) == []


def test_a_damaged_record_or_one_of_another_version_is_left_out(store: ObjectStore) -> None:
    Timings(store, "r").keep("00", Stopwatch())
    for name, data in (("a", b"{"), ("b", b"[1]"), ("c", b'{"partition": "00"}')):
        store.put(f"runs/r/attempts/timings/00/{name}.json", data)
    assert len(Timings(store, "r").of(["00"])) == 1


def test_a_store_that_takes_no_timings_costs_nothing_but_them(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def put(self, key: str, data: bytes) -> None:
            raise Denied("no more of this")

    Timings(Full(), "r").keep("00", Stopwatch())  # type: ignore[arg-type]
    assert "no more of this" in caplog.text
