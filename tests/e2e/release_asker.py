"""A process that asks a corpus at a fixed rate and notes what each answer held. Judges nothing.

The schedule is fixed ahead: a slow answer delays no later question, as far as the threads go, and how late each was
sent is noted. Told by the end of its standard input to stop, it prints its answers, one JSON array a line.
``live``: as the library asks, the alias resolved once. ``msearch`` and ``searches``: as a plain client does, naming the
alias in both parts of one ``_msearch``, or in two requests.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.embed.backends import open_embedder
from pipelines.search import How, Mode, search

K = 10
MODES: tuple[Mode, ...] = ("lexical", "vector", "hybrid")
READY = "ready"
_THREADS = 8
_TEXTS = [f"cargo {first} {second}" for first in ("alba", "bocent", "dofel", "grapol", "storas")
          for second in ("credor", "luras", "merlim", "noriba", "versen")]  # fmt: skip
Ask = Callable[[Mode, str], tuple[list[str], int]]


@dataclass(frozen=True)
class Answer:
    """Moments are of the machine's monotonic clock. ``marks`` are those of all hits, each once, and ``hits`` is their
    number in the part that held the fewest."""

    mode: str
    due: float
    sent: float
    answered: float
    marks: tuple[str, ...]
    hits: int
    error: str = ""


def live(session: Session) -> Ask:
    target, corpus = session.target, session.settings.corpus
    embedder = open_embedder(session.settings.embed, session.settings.storage)

    def ask(mode: Mode, text: str) -> tuple[list[str], int]:
        name = target.live(corpus)
        assert name is not None, "nothing is live"
        hits = search(target, embedder, name, text, How(mode=mode, k=K))
        return [hit.metadata["lang"] for hit in hits], len(hits)

    return ask


def plain(session: Session, *, together: bool) -> Ask:
    address, alias = urlsplit(session.settings.index.url), session.settings.corpus
    embedder = open_embedder(session.settings.embed, session.settings.storage)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)

    def post(path: str, lines: list[dict[str, Any]]) -> Any:
        body = "".join(f"{json.dumps(line)}\n" for line in lines)
        connection.request("POST", f"/{alias}/{path}", body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    def ask(mode: Mode, text: str) -> tuple[list[str], int]:
        vector = embedder.embed([text], "query")[0].tolist()
        sides = [{"match": {"text": text}}, {"knn": {"vector": {"vector": vector, "k": K}}}]
        bodies = [{"size": K, "_source": ["metadata"], "query": side} for side in sides]
        if together:
            answers = post("_msearch", [line for body in bodies for line in ({}, body)])["responses"]
        else:
            answers = [post("_search", [body]) for body in bodies]
        found = [answer["hits"]["hits"] for answer in answers]
        return [hit["_source"]["metadata"]["lang"] for hits in found for hit in hits], min(map(len, found))

    return ask


WAYS: dict[str, Callable[[Session], Ask]] = {
    "live": live,
    "msearch": lambda session: plain(session, together=True),
    "searches": lambda session: plain(session, together=False),
}


def ask_on_schedule(make: Callable[[], Ask], *, per_s: float, begin: float, over: threading.Event,
                    threads: int = _THREADS) -> list[Answer]:  # fmt: skip
    """Question n is due at ``begin`` + n / ``per_s``, until ``over``; whichever thread is free takes the next."""
    numbers, answers = itertools.count(), list[Answer]()

    def run() -> None:
        ask = make()
        while True:
            number = next(numbers)
            due = begin + number / per_s
            if over.wait(max(0.0, due - time.monotonic())):
                return
            answers.append(_one(ask, number, due))

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return answers


def _one(ask: Ask, number: int, due: float) -> Answer:
    mode, text = MODES[number % len(MODES)], _TEXTS[number % len(_TEXTS)]
    sent, marks, hits, error = time.monotonic(), list[str](), 0, ""
    try:
        marks, hits = ask(mode, text)
    except Exception as failure:
        error = repr(failure)
    return Answer(mode, due, sent, time.monotonic(), tuple(sorted(set(marks))), hits, error)


def _wait_for_the_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conf", type=Path)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--rate", type=float, required=True)
    arguments = parser.parse_args()
    session = Session(load_settings(arguments.conf, []), quiet=True)
    make, over = WAYS[arguments.way], threading.Event()
    for mode in MODES:
        make(session)(mode, _TEXTS[0])  # opened and imported before the first question is due
    print(READY, flush=True)
    begin = float(sys.stdin.readline())
    threading.Thread(target=_wait_for_the_end, args=[over], daemon=True).start()
    for answer in ask_on_schedule(lambda: make(session), per_s=arguments.rate, begin=begin, over=over):
        print(json.dumps(astuple(answer)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
