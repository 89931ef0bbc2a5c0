"""Content-defined cuts of a sequence: where they fall depends on what lies nearby, never on what lies far away.

Knows keys' hashes and weights only.

An item begins a piece when its hash is the smallest among all that begin within half a target on either side
(local-minimum chunking: Bjørner, Blass, Gurevich, "Content-Dependent Chunking for Differential Compression",
J. Comput. Syst. Sci. 76, 2010). Pieces so cut hold at least half a target, a target on average, and an edit
cannot move a cut further away than half a target. A piece over twice the target is cut again at its
smallest hash, which depends on that piece alone, so nothing cascades.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate


def key_hash(key: str) -> int:
    """64 bits of BLAKE2b over the relative key: nothing but the name decides where cuts fall."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def cut(hashes: Sequence[int], weights: Sequence[int], target: int) -> list[tuple[int, int]]:
    """Ranges [start, end) of items, in order, that cover them all.

    Each weighs between half a target and two, except where single items forbid it: one at an end of the
    sequence may weigh less, one item alone may weigh more. Weights are whole numbers, since the rounding of
    fractions would carry an edit along the sequence.
    """
    if not hashes:
        return []
    positions = list(accumulate(weights, initial=0))
    least = max(1, target // 2)
    starts = [0, *_local_minima(hashes, positions, least)]
    pieces = zip(starts, [*starts[1:], len(hashes)], strict=True)
    return [part for piece in pieces for part in _halves(piece, hashes, positions, least, most=2 * target)]


def _local_minima(hashes: Sequence[int], positions: Sequence[int], least: int) -> list[int]:
    """Items at least ``least`` away from both ends and from the nearest smaller hash on either side."""
    end = positions[-1]
    alone = [least <= position <= end - least for position in positions[:-1]]
    rising: list[int] = []  # a stack of items whose hashes rise: what is below an item is its nearest smaller one
    for item, value in enumerate(hashes):
        while rising and hashes[rising[-1]] > value:
            above = rising.pop()
            alone[above] &= positions[item] - positions[above] >= least
        if rising:
            alone[item] &= positions[item] - positions[rising[-1]] >= least
        rising.append(item)
    return [item for item, is_alone in enumerate(alone) if is_alone]


def _halves(piece: tuple[int, int], hashes: Sequence[int], positions: Sequence[int],
            least: int, *, most: int) -> list[tuple[int, int]]:  # fmt: skip
    """The piece, cut at its smallest hash until nothing weighs over ``most``, leaving ``least`` where it can."""
    pending, done = [piece], []
    while pending:
        start, end = pending.pop()
        if positions[end] - positions[start] <= most or end - start == 1:
            done.append((start, end))
            continue
        inner = range(start + 1, end)
        roomy = [
            i for i in inner if least <= positions[i] - positions[start] and least <= positions[end] - positions[i]
        ]
        middle = min(roomy or inner, key=hashes.__getitem__)
        pending += [(middle, end), (start, middle)]
    return done
