"""Restarts, releases and rollbacks cost those who ask nothing, and no answer is of a generation that is long gone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.e2e.release_storm import NEWER, OLDER, Move
from tests.service.load import Answer
from tests.service.rolling import BUSY_MARGIN_S, K, Rolling, judge, rolling

pytestmark = pytest.mark.opensearch
MOVES = [Move(NEWER, 10.0, 11.0), Move(OLDER, 20.0, 21.0)]


def must_be_sound(result: Rolling) -> None:
    assert not result.wrong
    assert result.exit_codes == {"0": result.rounds}
    assert set(result.by_generation) == {OLDER, NEWER}
    assert min(result.by_generation.values()) >= 10 * result.rounds
    statuses = [set(found) for found in result.by_backend.values()]
    assert statuses == [{"200"}, {"200"}]


@pytest.mark.parametrize(
    ("sent", "status", "marks", "hits", "found"),
    [
        (5.0, 200, (OLDER,), K, ""),
        (11.3, 200, (OLDER,), K, ""),  # it had not yet looked
        (10.5, 200, (NEWER,), K, ""),
        (12.6, 200, (OLDER,), K, "stale"),
        (5.0, 200, (NEWER,), K, "stale"),
        (25.0, 200, (NEWER,), K, "stale"),
        (25.0, 200, (NEWER, OLDER), K, "mixed"),
        (5.0, 200, (OLDER,), K - 1, "short"),
        (5.0, 200, (), 0, "mixed"),
        (5.0, 502, (), 0, "failed"),
        (5.0, 0, (), 0, "failed"),
        (5.0, 503, (), 0, "failed"),
    ],
)
def test_an_answer_is_judged_by_what_was_live(
    sent: float, status: int, marks: tuple[str, ...], hits: int, found: str
) -> None:
    result = Rolling(rounds=1, rate=1.0, exit_codes={"0": 1})
    judge(result, [Answer(sent, sent, sent + 0.2, status, generation="g", marks=marks, hits=hits)], MOVES)
    assert {line.partition(":")[0] for line in result.wrong} - {"short"} == ({found} - {"short", ""})
    assert ("short" in {line.partition(":")[0] for line in result.wrong}) == (status == 200 and hits != K)
    assert result.sound == (not found)


def test_an_answer_of_a_generation_with_the_rows_of_another_is_mixed() -> None:
    result = Rolling(rounds=1, rate=1.0, exit_codes={"0": 1})
    rows = [("g1", (OLDER,)), ("g2", (NEWER,)), ("g1", (NEWER,))]
    answers = [Answer(15.0, 15.0, 15.1, 200, generation=name, marks=marks, hits=K) for name, marks in rows]
    judge(result, answers, [Move(NEWER, 1.0, math.inf)])
    assert result.mixed >= 1


def test_a_round(tmp_path: Path, opensearch_url: str) -> None:
    must_be_sound(rolling(tmp_path, opensearch_url, rounds=1, rate=40, margin_s=BUSY_MARGIN_S))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_rounds(tmp_path: Path, opensearch_url: str) -> None:
    result = rolling(tmp_path, opensearch_url, rounds=50, rate=60)
    print(result)
    must_be_sound(result)
