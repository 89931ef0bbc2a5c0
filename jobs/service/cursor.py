"""Where an answer ended, as an opaque text that its client gives back for the next hits. Knows no index.

It holds the generation, a digest of the question with its asker's tenant, and how many hits came before. It is no
secret and opens nothing: tenant and bounds are taken from the request that brings it, never from it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from pipelines.errors import QueryRefused


@dataclass(frozen=True, slots=True)
class Cursor:
    generation: str
    question: str
    skip: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([1, self.generation, self.question, self.skip])).decode()


def read_cursor(text: str, question: str, deepest: int) -> Cursor:
    """Raises QueryRefused where it is broken, of another question, or deeper than anyone may look."""
    try:
        version, generation, of, skip = orjson.loads(base64.urlsafe_b64decode(text.encode("ascii")))
    except (ValueError, TypeError, binascii.Error) as error:
        raise QueryRefused("cursor is no cursor of this service; ask again without one") from error
    # Exact types: JSON's true is 1 as well.
    if version != 1 or type(generation) is not str or type(of) is not str or type(skip) is not int or version is True:
        raise QueryRefused("cursor is no cursor of this service; ask again without one")
    if of != question:
        raise QueryRefused("cursor belongs to another question; repeat that one, or ask this without a cursor")
    if not 0 < skip < deepest:
        raise QueryRefused(f"cursor leads past the first {deepest} hits, which is as deep as this service looks")
    return Cursor(generation, of, skip)
