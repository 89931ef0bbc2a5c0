"""Globs over relative keys, compiled to one regular expression. Knows no store and no settings.

``*`` and ``?`` stay within a segment, ``**`` crosses segments (``**/`` also matches none), ``[…]`` is a class
of characters and ``{a,b}`` gives alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_SPECIAL = re.compile(r"[\\\[\]^&~|]")
_BRACES = re.compile(r"\{([^{}]*)\}")


def matcher(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """Whether a relative key matches some glob of ``include`` and none of ``exclude``."""
    wanted = None if "**" in include else _compile(tuple(include))
    unwanted = _compile(tuple(exclude)) if exclude else None
    return lambda key: (wanted is None or wanted(key) is not None) and (unwanted is None or unwanted(key) is None)


def translate(glob: str) -> str:
    """The regular expression of a glob without braces."""
    return "".join(_TRANSLATED.get(token) or _literal(token) for token in _TOKEN.findall(glob))


_TRANSLATED = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _literal(token: str) -> str:
    if len(token) > 1:  # a class of characters
        negated, body = token[1] == "!", token[1:-1].removeprefix("!")
        escaped = _SPECIAL.sub(r"\\\g<0>", body)
        return f"(?!/)[{'^' if negated else ''}{escaped}]"
    return re.escape(token)


@lru_cache(maxsize=32)
def _compile(globs: tuple[str, ...]) -> Callable[[str], object]:
    expanded = [translate(one) for glob in globs for one in _expand(glob)]
    return re.compile("|".join(f"(?:{one})" for one in expanded), re.DOTALL).fullmatch


def _expand(glob: str) -> list[str]:
    """The alternatives of ``{a,b}``, innermost first."""
    found = _BRACES.search(glob)
    if found is None:
        return [glob]
    before, after = glob[: found.start()], glob[found.end() :]
    return [one for choice in found[1].split(",") for one in _expand(before + choice + after)]
