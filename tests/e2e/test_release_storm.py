"""While clients ask, any number of releases and rollbacks cost them no error, no empty and no mixed answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.release_asker import Answer, K
from tests.e2e.release_storm import NEWER, OLDER, Move, Storm, judge, release_storm

pytestmark = pytest.mark.opensearch


def must_be_sound(result: Storm) -> None:
    """No time is asserted: how many questions a busy machine answers is reported by the storm."""
    assert not result.wrong
    assert result.sound
    assert result.moves == 2 * result.cycles, result
    assert set(result.by_generation) == {OLDER, NEWER}, result
    assert set(result.by_mode) == {"lexical", "vector", "hybrid"}, result
    assert min(result.by_generation.values()) > result.cycles, result


@pytest.mark.parametrize(
    ("sent", "marks", "hits", "error", "found"),
    [
        (1.0, (OLDER,), K, "", ""),
        (1.9, (NEWER,), K, "", ""),
        (2.5, (OLDER,), K, "", ""),  # the alias may move at any moment of its move
        (3.5, (NEWER,), K, "", ""),
        (3.5, (OLDER,), K, "", "stale"),
        (1.0, (NEWER,), K, "", "stale"),
        (5.5, (NEWER,), K, "", "stale"),
        (2.5, (NEWER, OLDER), K, "", "mixed"),
        (2.5, (NEWER,), K - 1, "", "short"),
        (2.5, (), 0, "", "empty"),
        (2.5, (), 0, "TargetError()", "errors"),
    ],
)
def test_an_answer_is_judged_by_what_may_have_been_live(
    sent: float, marks: tuple[str, ...], hits: int, error: str, found: str
) -> None:
    result = Storm(cycles=1, rate=1.0)
    answer = Answer("lexical", sent, sent, sent + 0.2, marks, hits, error)
    judge(result, [answer], [Move(NEWER, 2.0, 3.0), Move(OLDER, 4.0, 5.0)])
    counts = {name: getattr(result, name) for name in ("errors", "empty", "short", "mixed", "stale")}
    assert counts == {name: int(name == found) for name in counts}
    assert result.sound == (not found)


def test_ten_cycles_at_a_lower_rate(tmp_path: Path, opensearch_url: str) -> None:
    must_be_sound(release_storm(tmp_path, opensearch_url, cycles=10, rate=60, commands=0, contrast_per_s=0))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_hundred_cycles(tmp_path: Path, opensearch_url: str) -> None:
    result = release_storm(tmp_path, opensearch_url, cycles=200, rate=200)
    print(result)
    must_be_sound(result)
