"""The demo's corpus: the documentation of Python packages on this machine, and the walk through it.

Docstrings are read from the sources with ``ast``: nothing is imported. Knows no store, index or model; what is
done with the corpus is what ``backhaul`` commands do, run here as a user would type them.
"""

from __future__ import annotations

import ast
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.main import run_command
from jobs.settings import load_settings
from pipelines.errors import SettingsError

CONF = Path(__file__).parent.parent / "conf" / "demo.yaml"

# Import name -> distribution. All of them come with the base install, so a fuller one has the same corpus.
PACKAGES = {
    "anyio": "anyio", "boto3": "boto3", "botocore": "botocore", "click": "click", "dateutil": "python-dateutil",
    "fastapi": "fastapi", "fsspec": "fsspec", "lancedb": "lancedb", "numpy": "numpy", "obstore": "obstore",
    "opensearchpy": "opensearch-py", "packaging": "packaging", "psutil": "psutil", "pyarrow": "pyarrow",
    "pydantic": "pydantic", "requests": "requests", "rich": "rich", "starlette": "starlette", "tenacity": "tenacity",
    "tokenizers": "tokenizers", "tqdm": "tqdm", "typer": "typer", "urllib3": "urllib3", "zstandard": "zstandard",
}  # fmt: skip
MAX_DOCUMENTS = 1800
MIN_CHARACTERS = 80  # shorter docstrings say little more than the name
MAX_CHARACTERS = 600  # of a docstring: summary and first parameters, seldom the examples
MAX_ARGUMENTS = 4  # shown in a title
# Tests, build tools, and copies of other packages.
SKIPPED_FOLDERS = {"tests", "testing", "distutils", "f2py", "_utils", "_pyinstaller", "vendor", "_vendor", "_click"}

QUERIES = (
    "how much memory does a process use?",
    "parse a date from a string",
    "upload a file to an S3 bucket",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented module, class or function, named as its user would write it."""

    id: str
    title: str
    text: str
    doc_type: str
    package: str
    version: str
    source: str


def read_entries(package: str, folder: Path, release: str) -> list[Entry]:
    """All documented public names of one package, the nearest to its top first, then the best documented."""
    found: dict[str, tuple[int, Entry]] = {}
    for path in sorted((*folder.rglob("*.py"), *folder.rglob("*.pyi"))):
        relative = path.relative_to(folder)
        if not SKIPPED_FOLDERS.isdisjoint(relative.parts):
            continue
        source = (Path(package) / relative).as_posix()
        for names, node in _documented(path, (package, *_public(relative.with_suffix("").parts))):
            text = ast.get_docstring(node) or ""
            if len(text) >= MIN_CHARACTERS:
                name = ".".join(names)
                doc_type, title = _describe(name, node)
                entry = Entry(name, title, _clip(text), doc_type, package, release, source)
                found.setdefault(name, (len(text), entry))
    best_first = sorted(found.values(), key=lambda item: (item[1].id.count("."), -item[0], item[1].id))
    return [entry for _, entry in best_first]


def choose(entries: Mapping[str, Sequence[Entry]], limit: int) -> dict[str, list[Entry]]:
    """The first of each package, equally many of each; what a small one leaves goes to the larger ones."""
    chosen: dict[str, list[Entry]] = {}
    left = limit
    smallest_first = sorted(entries, key=lambda package: (len(entries[package]), package))
    for number, package in enumerate(smallest_first):
        chosen[package] = list(entries[package][: left // (len(smallest_first) - number)])
        left -= len(chosen[package])
    return chosen


def write_corpus(folder: Path, corpus: Mapping[str, Sequence[Entry]]) -> int:
    """One JSONL object per package under ``folder``; returns how many files changed.

    An equal file is left untouched, so its ETag stays and nothing downstream is done again.
    """
    written = 0
    for package, entries in corpus.items():
        lines = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
        path = folder / package / f"{package}.jsonl"
        if lines and not (path.exists() and path.read_bytes() == lines.encode()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lines.encode())
            written += 1
    for path in folder.glob("*/*.jsonl"):
        if path.stem == path.parent.name and not corpus.get(path.stem):  # a package that is gone
            path.unlink()
            written += 1
    return written


def installed_packages() -> Iterator[tuple[str, Path, str]]:
    """Name, folder and version of those of PACKAGES that are here."""
    for package, distribution in PACKAGES.items():
        spec = find_spec(package)  # of a top-level name: finds it without importing it
        if spec and spec.submodule_search_locations:
            try:
                yield package, Path(next(iter(spec.submodule_search_locations))), version(distribution)
            except PackageNotFoundError:
                continue


def corpus_folder() -> Path:
    """Where ``conf/demo.yaml`` says its source is. Raises SettingsError."""
    return Path(unquote(urlsplit(load_settings(CONF).source.uri).path))


def backhaul(*arguments: str) -> int:
    """The exit code of one command, shown as a user would type it."""
    print(f"\n$ {shlex.join(['backhaul', *arguments]).replace(str(CONF), 'conf/demo.yaml')}", flush=True)
    return run_command(arguments)


def main() -> int:
    try:
        folder = corpus_folder()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    entries = {package: read_entries(package, place, release) for package, place, release in installed_packages()}
    corpus = choose(entries, MAX_DOCUMENTS)
    changed = write_corpus(folder, corpus)
    documents = sum(map(len, corpus.values()))
    print(f"{documents} docstrings of {len(corpus)} packages in {folder} ({changed or 'no'} files changed)")
    commands = [["run", str(CONF)], *(["query", str(CONF), query, "--mode", "hybrid", "-k", "3"] for query in QUERIES)]
    for command in commands:
        if exit_code := backhaul(*command):
            return exit_code
    print(NEXT)
    return 0


NEXT = """
The index is live. Search it in a browser:
  .venv/bin/backhaul serve conf/demo.yaml          then open http://127.0.0.1:8080/

Or go on here:
  .venv/bin/backhaul query conf/demo.yaml "your own question" --mode hybrid
  .venv/bin/backhaul status conf/demo.yaml         what was done, and which generation is live
  .venv/bin/backhaul plan conf/demo.yaml           what another run would do: nothing
  make demo                                        the same again: nothing is embedded twice
"""


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(path: Path, module: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Documented]]:
    """The module, its public classes with their methods, and its public functions, in order of appearance."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, or the syntax of another Python
        return
    waiting: list[tuple[tuple[str, ...], Documented]] = [(module, tree)]
    while waiting:
        names, node = waiting.pop()
        yield names, node
        if isinstance(node, ast.Module | ast.ClassDef):
            inner = [child for child in node.body if isinstance(child, Documented) and not child.name.startswith("_")]
            waiting += [((*names, child.name), child) for child in reversed(inner)]


def _public(names: Sequence[str]) -> tuple[str, ...]:
    """``linalg/_linalg.py`` is spoken of as ``linalg``: nobody imports from the private part."""
    return tuple(name for name in names if not name.startswith("_"))


def _describe(name: str, node: Documented) -> tuple[str, str]:
    """doc_type and title: ``numpy.linalg.svd(a, full_matrices, compute_uv, hermitian)``."""
    if isinstance(node, ast.Module):
        return "module", name
    if isinstance(node, ast.ClassDef):
        return "class", name
    arguments = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    arguments = [argument for argument in arguments if argument not in {"self", "cls"}]
    more = ["…"] if len(arguments) > MAX_ARGUMENTS else []
    return "function", f"{name}({', '.join(arguments[:MAX_ARGUMENTS] + more)})"


def _clip(text: str) -> str:
    """At most its first MAX_CHARACTERS, ending with a paragraph, else a line, else a word."""
    if len(text) <= MAX_CHARACTERS:
        return text
    kept = text[:MAX_CHARACTERS]
    ends = (kept.rfind(boundary) for boundary in ("\n\n", "\n", " "))
    return kept[: next((end for end in ends if end > MAX_CHARACTERS // 2), MAX_CHARACTERS)].rstrip()


if __name__ == "__main__":
    sys.exit(main())
