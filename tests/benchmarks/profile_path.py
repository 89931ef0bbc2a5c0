"""Where the seconds of one of Backhaul's embedders go: tokenising, padding, computing, copying. Seconds of the thread that
calls: a runtime that computes beside it (OpenVINO, a GPU) has computing what is waited for.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class Watch:
    """Seconds by name, each without those of what was called within."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def on(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                took = time.perf_counter() - began
                self.seconds[name] += took - self._inner.pop()
                self._inner[-1] += took

        return watched


def profile(embedder: Any, texts: Sequence[str]) -> dict[str, float]:
    """Shares of the seconds of one call. Takes the embedder's parts apart, and puts them together again."""
    watch, tokenizer, runtime = Watch(), embedder._tokenizer, embedder._runtime
    replaced: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, by: Any) -> None:
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, by)

    def submit(rows: Any, plain: Callable[..., Any] = runtime.submit) -> Any:
        return watch.on("compute", plain(rows))

    replace(tokenizer, "ids", watch.on("tokenise", tokenizer.ids))
    if hasattr(runtime, "_file"):
        file = runtime._file
        replace(runtime, "_file", SimpleNamespace(inputs=file.inputs, feed=watch.on("pad", file.feed),
                                                  vectors=watch.on("copy", file.vectors)))  # fmt: skip
    else:
        from pipelines.embed import packed

        replace(packed, "layout_of", watch.on("pad", packed.layout_of))
        replace(packed, "unpacked", watch.on("pad", packed.unpacked))
    replace(runtime, "submit", watch.on("compute", submit))
    try:
        watch.on("copy", embedder.embed)(texts, "document")
    finally:
        for owner, name, plain in reversed(replaced):
            setattr(owner, name, plain)
    whole = sum(watch.seconds.values())
    return {name: round(watch.seconds[name] / whole, 4) for name in ("tokenise", "pad", "compute", "copy")}
