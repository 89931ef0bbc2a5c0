"""Which unexpected errors one document is to blame for, and which the machine that met them. Knows no stage.

A document whose text no rule foresaw must not fail the others of its partition: what it raises makes it a reject. What
another machine or another time would do better is raised on, because rejects must follow from the source alone.
"""

from __future__ import annotations

import re

from pipelines.errors import BackhaulError

_OF_THE_MACHINE = (BackhaulError, MemoryError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|allocate( \d+ bytes of)? memory|can't alloc|OutOfMemory|bad_alloc", re.IGNORECASE
)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_LONGEST = 200


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory, of the device or of the process, did not suffice; each library has words of its own."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


def blame_document(error: BaseException, doing: str) -> str:
    """The reason for rejecting the document that raised ``error``; ``doing`` says what was being done to it.

    Takes BaseException, because a panic of a library in Rust is no Exception.

    Raises:
        BaseException: ``error`` again, where the document is not to blame: a store's error, memory, a stop.
    """
    said = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()
    if isinstance(error, _OF_THE_MACHINE) or is_out_of_memory(error):
        raise error
    return f"{doing} raised {_ADDRESS.sub('0x…', said)[:_LONGEST]}"
