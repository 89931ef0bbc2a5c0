"""Rows in SMILE: the bytes that the format's specification asks for, and a real node that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipelines.targets.opensearch_smile import spell_smile, spell_value
from pipelines.targets.target import Meta
from tests.fixtures.faulty_opensearch import Act, Answer, Request, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import DIMENSIONS, FORMS, SPACE, Case, chunk, chunks, table

HEADER = b":)\n\x00"
# Bytes, or characters, at which a key is spelled in another way.
NAMES = ["n" * 64, "n" * 65, "\u00e9" * 28 + "n", "\u00e9" * 29]


def test_a_row_is_spelled_as_the_specification_says() -> None:
    row = chunk(3, tenant="\U0001f682", metadata={"lang": "en"})
    values = np.array([[1.0, -2.5, 0.0, -0.0, 3.4028235e38, 1e-45, 0.1, 1 / 3]], np.float32)
    made = table([row], values, first=3)
    data, ends = spell_smile(made)
    identity, digest = row.id.encode(), made["row_digest"][0].as_py().hex().encode()
    action = HEADER + b"\xfa\x84index\xfa\x82_id\xe4" + identity + b"\xfc\xfb\xfb\xff"
    document = b"".join([
        HEADER, b"\xfa",
        b"\x81id\xe4", identity, b"\xfc",
        b"\x8adocument_id\xe4d3\xfc",
        b"\x85tenant\xe4\xf0\x9f\x9a\x82\xfc",
        b"\x82uri\xe4papers.jsonl\xfc",
        b"\x84title\xe4Title 3\xfc",
        b"\x87doc_type\x21",
        b"\x83date\x21",
        b"\x87metadata\xfa\x83lang\xe4en\xfc\xfb",
        b"\x86ordinal\x24\x00\x00\x00\x00\x80",
        b"\x83text\xe4row 3\xfc",
        b"\x84start\x25\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80",
        b"\x82end\x25\x00\x00\x00\x00\x00\x00\x00\x00\x00\x8a",
        b"\x85tokens\x24\x00\x00\x00\x00\x8a",
        b"\x89row_digest\xe4", digest, b"\xfc",
        b"\x85vector\xf8",
        b"\x28\x03\x7c\x00\x00\x00",  # 0x3f800000
        b"\x28\x0c\x01\x00\x00\x00",  # 0xc0200000
        b"\x28\x00\x00\x00\x00\x00",
        b"\x28\x08\x00\x00\x00\x00",
        b"\x28\x07\x7b\x7f\x7f\x7f",  # 0x7f7fffff
        b"\x28\x00\x00\x00\x00\x01",
        b"\x28\x03\x6e\x33\x19\x4d",  # 0x3dcccccd
        b"\x28\x03\x75\x2a\x55\x2b",  # 0x3eaaaaab
        b"\xf9",
        b"\x88partition\xe4p\xfc",
        b"\x85number\x25\x00\x00\x00\x00\x00\x00\x00\x00\x00\x86",
        b"\xfb\xff",
    ])  # fmt: skip
    assert (bytes(data), ends) == (action + document, [len(action + document)])


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (None, "21"),
        (False, "22"),
        (True, "23"),
        ("", "e4 fc"),
        ("\x00\u00e9", "e4 00 c3 a9 fc"),
        (0, "25 00 00 00 00 00 00 00 00 00 80"),
        (-1, "25 00 00 00 00 00 00 00 00 00 81"),
        (64, "25 00 00 00 00 00 00 00 00 02 80"),
        (2**63 - 1, "25 03 7f 7f 7f 7f 7f 7f 7f 7f be"),
        (-(2**63), "25 03 7f 7f 7f 7f 7f 7f 7f 7f bf"),
        (2**64 - 1, "26 8e 00 00 00 00 00 00 01 7f 7f 7f 7f 7f 7f 7f 7f 7f"),
        (1.0, "29 00 3f 78 00 00 00 00 00 00 00"),
        (-0.0, "29 01 00 00 00 00 00 00 00 00 00"),
        ([], "f8 f9"),
        ({"": [{}]}, "fa 20 f8 fa fb f9 fb"),
    ],
)
def test_a_value_is_spelled_as_the_specification_says(value: Any, spelled: str) -> None:
    assert spell_value(value).hex(" ") == spelled


class TestRealNode:
    @pytest.fixture
    def case(self, opensearch_url: str) -> Iterator[Case]:
        made = Case(opensearch_url, FORMS["smile"])
        yield made
        delete_indices(opensearch_url, made.corpus)

    def test_keys_of_any_length_are_read(self, case: Case) -> None:
        case.target().create(case.name, Meta(case.corpus, "r" * 12, SPACE.to_json(), tuple(NAMES)), DIMENSIONS)
        sent = [chunk(n, metadata={name: f"{name[0]} {n}" for name in NAMES[n:]}) for n in range(len(NAMES) + 1)]
        assert case.target().load(case.name, [table(sent)]).dead == ()
        case.send("POST", f"/{case.name}/_refresh")
        found = [row["metadata"] for page in case.target().scan(case.name, "p") for row in page.rows]
        assert found == [each.document.metadata for each in sent]

    def test_bodies_are_named_for_what_they_are_and_shrink_as_those_of_json_do(self, case: Case) -> None:
        case.create()
        types, taken = set(), []

        def rule(request: Request) -> Act | None:
            if "/_bulk" not in request.path:
                return None
            types.update(value for name, value in request.headers.items() if name.lower() == "content-type")
            if len(request.body) > 4_000:
                return Answer(413)
            taken.append(request.body)
            return None

        with faulty_opensearch(case.url, rule) as url:
            loaded = case.target(url=url).load(case.name, [table(chunks(0, 30))])
        assert types == {"application/smile"}
        assert len(taken) > 2
        assert (loaded.rows, case.ids()) == (30, {each.id for each in chunks(0, 30)})

    def test_rows_are_deleted(self, case: Case) -> None:
        case.create()
        case.target().load(case.name, [table(chunks(0, 3))])
        case.target().delete(case.name, [chunk(1).id, "absent"])
        assert case.ids() == {chunk(0).id, chunk(2).id}
