"""Valid tokens per second of every embedding path beside other programs that embed with the same model.

One command: ``python -m tests.benchmarks.embedding [--rounds 5] [--documents 1000] [--device cpu] [--quick]``. MiniLM-L6-v2 on
documents of SciFact and of MedQuAD (title, space, text), 256 tokens at most, two threads. Each contender is a process of its own
that stays alive over the rounds and has loaded, warmed up and chosen its batch size before; in each round every one takes a turn
while the others wait. A turn takes the texts, or the largest half, quarter, eighth or sixteenth of them that takes
``--turn-seconds`` at most; which one goes on with the rounds. Timed is what takes texts and gives vectors, tokenising included;
counted are tokens that the model attends to, never padding.

Then, for Backhaul's paths: the time of a token in texts of mixed lengths against texts of one length, where the time goes, and
the share of the machine's measured matrix rate. Vectors are compared with those of ``encode()``, turn by turn. Writes
results/embedding.json and embedding.svg (``--quick``: nothing but the summary).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from pipelines.embed.backends import open_tokenizer
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings
from tests.benchmarks.contenders import REFERENCE, Contender, contenders
from tests.benchmarks.contest import Running
from tests.benchmarks.corpora import Corpus, labelled, mixed_and_uniform, sample_of
from tests.benchmarks.derived import MODEL
from tests.benchmarks.embedding_plot import plot
from tests.benchmarks.limits import Shape, shape_of
from tests.benchmarks.machine import RESULTS, write_results
from tests.benchmarks.spread import spread
from tests.e2e.command import PROJECT, environment

CORPORA = ("scifact", "medquad")
SHARES = (1, 2, 4, 8, 16)
LENGTH_ROUNDS = 3
GB_EACH = 1.0  # of a contender that stays alive, on average; those with large batches hold up to 4


@dataclass(slots=True)
class Found:
    """Of one contender, by corpus."""

    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cosines: list[float] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=1000, help="of each corpus")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turn-seconds", type=float, default=4.5)
    parser.add_argument("--quick", action="store_true", help="one round of little, to see that all take part")
    parser.add_argument("--only", nargs="*", help="names that contain one of these; encode() with defaults always runs")
    parser.add_argument("--data", type=Path,
                        default=Path(os.environ.get("BACKHAUL_DATA", PROJECT.parent / "shared/data")))  # fmt: skip
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.documents, arguments.turn_seconds = 1, min(arguments.documents, 64), 1.0
    with tempfile.TemporaryDirectory(prefix="embedding") as folder:
        figures = measure(Path(folder), arguments)
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    if not arguments.quick:
        name = "embedding" if arguments.device == "cpu" else f"embedding-{arguments.device}"
        print(f"written to {write_results(name, figures)} and {plot(figures, RESULTS / f'{name}.svg')}")
    return 0


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    corpora = [labelled(folder, arguments.data, name, arguments.documents) for name in CORPORA]
    mixed, uniform = mixed_and_uniform(folder, corpora, 4_000 if arguments.quick else 20_000)
    shape = shape_of(resolve_model(MODEL, digest=None, storage=None).config.transformer)
    limits = _limits(arguments.device, arguments.threads)
    with ExitStack() as stack:
        running, left_out = _started(stack, arguments, folder, corpora)
        found = _rounds(running, corpora, arguments.rounds)
        ours = [each for each in running if each.contender.ours]
        lengths = _compared_lengths(ours, mixed, uniform, min(arguments.rounds, LENGTH_ROUNDS))
        profiles = {each.contender.name: each.ask(texts=sample_of(folder, corpora), profile=True) for each in ours}
        tokeniser = _tokeniser(stack, arguments, corpora)
    again = _limits(arguments.device, arguments.threads)  # a machine that others use is at its best some of the time
    limits = {kind: {library: max(rate, again[kind][library]) for library, rate in rates.items()}
              for kind, rates in limits.items()}  # fmt: skip
    return {
        "documents": arguments.documents,
        "device": arguments.device,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "tokens": {corpus.name: sum(corpus.tokens) for corpus in corpora},
        "operations_per_token": {c.name: round(shape.operations(c.tokens) / sum(c.tokens)) for c in corpora},
        "matrix_operations_per_second": limits,
        "tokeniser_ids_per_second": tokeniser,
        "contenders": {each.contender.name: _told(each, found[each.contender.name], corpora, shape, limits)
                       for each in running},
        "left_out": left_out,
        "ours_against_peers": _ratios(running, found),
        "mixed_against_uniform": lengths,
        "lengths": {"mixed_texts": len(mixed.tokens), "uniform_length": uniform.tokens[0]},
        "profile": profiles,
    }  # fmt: skip


def _started(stack: ExitStack, arguments: argparse.Namespace, folder: Path,
             corpora: Sequence[Corpus]) -> tuple[list[Running], dict[str, str]]:  # fmt: skip
    """Those that can run here, loaded and warm, and why others cannot."""
    running, left_out = [], {}
    sample = sample_of(folder, corpora)
    tokens = sum(corpus.turn(0, 16)[1] for corpus in corpora)
    chosen = [one for one in contenders(arguments.device) if not arguments.only or one == REFERENCE
              or any(word in one.name for word in arguments.only)]  # fmt: skip
    if (free := psutil.virtual_memory().available / 1e9) < len(chosen) * GB_EACH:
        raise SystemExit(f"{len(chosen)} contenders want about {len(chosen) * GB_EACH:.0f} GB of memory and {free:.1f} GB are "
                         "free; end what else runs, or choose some with --only")  # fmt: skip
    for contender in chosen:
        try:
            each = Running(contender, arguments.device, arguments.threads, arguments.data)
            stack.callback(each.end)
            each.prepared = each.ask(texts=sample)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            if contender.ours or contender == REFERENCE:
                raise
            left_out[contender.name] = str(error)[-300:]
            continue
        rate = tokens / each.prepared["seconds"]
        for corpus in corpora:
            seconds = sum(corpus.tokens) / rate
            each.shares[corpus.name] = next((n for n in SHARES if seconds / n <= arguments.turn_seconds), SHARES[-1])
        print(f"{contender.name}: {rate:.0f} tokens/s on the sample, {each.prepared}", file=sys.stderr, flush=True)
        running.append(each)
    return running, left_out


def _rounds(running: Sequence[Running], corpora: Sequence[Corpus], rounds: int) -> dict[str, Found]:
    found = {each.contender.name: Found() for each in running}
    for number in range(rounds):
        for corpus in corpora:
            plain: dict[int, Any] = {}  # vectors of encode() in this round, by text
            for each in sorted(running, key=lambda one: one.contender != REFERENCE):
                chosen, tokens = corpus.turn(number, each.shares[corpus.name])
                seconds, vectors = each.embed(corpus.file, chosen)
                kept = found[each.contender.name]
                kept.rates[corpus.name].append(tokens / seconds)
                if each.contender == REFERENCE:
                    plain = dict(zip(chosen, vectors, strict=True))
                kept.cosines += [_cosine(v, plain[i]) for i, v in zip(chosen, vectors, strict=True) if i in plain]
        print({name: round(sum(rates[-1] for rates in each.rates.values()) / len(corpora))
               for name, each in found.items()}, file=sys.stderr, flush=True)  # fmt: skip
    return found


def _cosine(one: Any, other: Any) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def _told(
    each: Running, found: Found, corpora: Sequence[Corpus], shape: Shape, limits: dict[str, dict[str, float]]
) -> dict[str, Any]:
    contender, limit = each.contender, max(limits[each.contender.precision].values())
    cosines = np.array(found.cosines)
    told: dict[str, Any] = {
        "ours": contender.ours,
        "precision": contender.precision,
        "tokens_per_second": {name: spread(rates, 0) for name, rates in found.rates.items()},
        "a_turn_takes": {name: f"1/{shares}" for name, shares in each.shares.items()},
        "load_s": round(each.prepared["load_s"], 2),
        "warm_up_s": round(each.prepared["warm_s"], 2),
        "batch_size": each.prepared["batch"],
        "cosine_to_encode": {"texts": len(cosines), "min": round(float(cosines.min()), 6),
                             "p1": round(float(np.quantile(cosines, 0.01)), 6), "p50": round(float(np.median(cosines)), 6)},
        "share_of_matrix_rate": {
            corpus.name: round(float(np.median(found.rates[corpus.name]))
                               * shape.operations(corpus.tokens) / sum(corpus.tokens) / limit, 4)
            for corpus in corpora},
    }  # fmt: skip
    return told


def _ratios(running: Sequence[Running], found: dict[str, Found]) -> dict[str, dict[str, dict[str, float]]]:
    """Of each of our paths by each peer, both corpora and all rounds: the median of the ratios within a round."""
    ours = [each.contender.name for each in running if each.contender.ours]
    peers = [each.contender.name for each in running if not each.contender.ours]

    def ratios(one: str, other: str) -> list[float]:
        return [
            a / b for name in CORPORA for a, b in zip(found[one].rates[name], found[other].rates[name], strict=True)
        ]

    return {one: {other: spread(ratios(one, other), 2) for other in peers} for one in ours}


def _compared_lengths(ours: Sequence[Running], mixed: Corpus, uniform: Corpus, rounds: int) -> dict[str, Any]:
    """Seconds of a token in texts of mixed lengths by those in texts of one length."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):  # the first one meets new shapes of batches
        for each in ours:
            seconds = {}
            for corpus in (mixed, uniform):
                took, _ = each.embed(corpus.file, range(len(corpus.tokens)))
                seconds[corpus.name] = took / sum(corpus.tokens)
            if number:
                found[each.contender.name].append(seconds["mixed"] / seconds["uniform"])
    return {name: spread(values, 3) for name, values in found.items()}


def _tokeniser(stack: ExitStack, arguments: argparse.Namespace, corpora: Sequence[Corpus]) -> dict[str, float]:
    """Ids a second, those behind the limit included, as they are cut off afterwards."""
    tokenise = Running(Contender("tokeniser", "tokenise"), "cpu", arguments.threads, arguments.data)
    stack.callback(tokenise.end)
    rates = []
    for number in range(arguments.rounds + 1):
        for corpus in corpora:
            took, _ = tokenise.embed(corpus.file, range(len(corpus.tokens)))
            counts = open_tokenizer(EmbedSettings(model=MODEL)).count(orjson.loads(corpus.file.read_bytes()))
            rates += [sum(counts) / took] if number else []
    return spread(rates, 0)


def _limits(device: str, threads: int) -> dict[str, dict[str, float]]:
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.limits", device, str(threads)], env=environment(),
                          capture_output=True, text=True, check=True)  # fmt: skip
    limits: dict[str, dict[str, float]] = orjson.loads(done.stdout)
    return limits


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
