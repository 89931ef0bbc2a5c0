"""The template of what is embedded."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipelines.document import Document, Position
from pipelines.split.splitter import SplitSettings
from pipelines.split.template import metadata_names, render

DOCUMENT = Document("x", "a/b", "Title", "whole", Position("a/b", 0), "faq", None, "red",
                    {"lang": "en", "n": 3, "ok": True})  # fmt: skip


def test_names_are_filled_and_outer_blanks_go() -> None:
    template = (
        " {doc_type}|{date}|{uri}|{tenant}|{metadata.lang}|{metadata.n}|{metadata.ok}|{metadata.no}|{title}: {text} "
    )
    assert render(template, DOCUMENT, "part") == "faq||a/b|red|en|3|true||Title: part"


def test_braces_in_a_document_stay_what_they_are() -> None:
    assert render("{title} {text}", DOCUMENT, "{title} {x.__class__} } {") == "Title {title} {x.__class__} } {"


def test_lone_braces_of_a_template_are_text() -> None:
    assert render("a } {{text} {", DOCUMENT, "part") == "a } {part {"


@pytest.mark.parametrize("template", ["{titel} {text}", "{text.__class__} {text}", "{} {text}", "{metadata.} {text}"])
def test_an_unknown_placeholder_is_refused_when_settings_are_read(template: str) -> None:
    with pytest.raises(ValidationError, match="unknown placeholder"):
        SplitSettings(template=template)


def test_a_near_name_is_proposed() -> None:
    with pytest.raises(ValidationError, match=r"did you mean \{title\}"):
        SplitSettings(template="{titel} {text}")


def test_a_template_without_the_text_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"must contain \{text\}"):
        SplitSettings(template="{title}")


def test_the_metadata_a_template_uses_can_be_asked() -> None:
    assert metadata_names("{metadata.lang} {text} {metadata.n}") == ("lang", "n")
