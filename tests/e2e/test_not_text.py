"""Files that hold no text: binary data and other encodings are counted as such, by the type that their path says."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf

FILES: dict[str, bytes] = {
    "note/good.txt": b"a text of some words",
    "note/bom.txt": "a text with a mark".encode("utf-8-sig"),
    "note/blank.txt": " \n\u3000\n".encode(),
    "scan/image.txt": bytes.fromhex("89504e470d0a1a0a0000000d49484452"),
    "scan/zeros.txt": bytes(100),
    "old/latin1.txt": "Où est la bibliothèque ?".encode("latin-1"),
    "old/utf16.txt": "a text in two bytes a letter".encode("utf-16"),
    "old/utf16le.txt": "a text in two bytes a letter".encode("utf-16-le"),
    "old/mojibake.txt": "M\ufffdnchen, K\ufffdln, D\ufffdsseldorf".encode(),
}


def test_files_that_hold_no_text_are_told_by_the_type_that_their_path_says(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(data)
    conf = write_conf(tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{tmp_path}/source",
                      engine={"workers": 0}, partition={"path": "{doc_type}/**", "by": ["doc_type"]})  # fmt: skip
    form = ("--set", "source.format=text")
    outcome = backhaul_here("embed", conf, "--json", *form, "--set", "limits.max_reject_share=1.0")
    assert outcome.code == 0, outcome.err
    by_type = outcome.json["ledger"]["by_type"]
    assert {name: (c["documents"], c["empty"], c["whitespace"], c["not_text"]) for name, c in by_type.items()} == {
        "note": (2, 0, 1, 0), "scan": (0, 0, 0, 2), "old": (0, 0, 0, 4)}  # fmt: skip
