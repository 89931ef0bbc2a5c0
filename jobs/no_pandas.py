"""Keeps pyarrow and pyspark from importing pandas, a second of CPU, where nobody has a use for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder


class _Refuse(MetaPathFinder):
    @staticmethod
    def find_spec(fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not imported here", name=fullname)


@contextlib.contextmanager
def pandas_refused() -> Iterator[None]:
    """Within, ``import pandas`` fails as where it is not installed, unless it was imported before."""
    refuse = _Refuse()
    sys.meta_path.insert(0, refuse)
    try:
        yield
    finally:
        sys.meta_path.remove(refuse)


def spare_pandas() -> None:
    """From now on pyarrow behaves as where pandas is not installed, unless it was imported before.

    At its first look at any value pyarrow imports pandas, to ask whether that is a Series, and remembers the answer.
    ``import pandas`` itself works as ever; what is lost is ``to_pandas`` of pyarrow, so that this is for processes
    that are ours alone: a command, a worker.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    with pandas_refused():
        pa.array([0])
