"""Records into documents: which field is what, and which record is none. Knows no format and no chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pipelines.document import Document
from pipelines.partition import Partition
from pipelines.poison import blame_document
from pipelines.read.fields import FieldError, Fields
from pipelines.read.formats import open_reader
from pipelines.read.reader import Broken, FieldsSettings, Record, SourceSettings
from pipelines.rejects import Reject, Rejects
from pipelines.store import Store

_SAMPLE = 200


def read_documents(store: Store, partition: Partition, source: SourceSettings, rejects: Rejects) -> Iterator[Document]:
    """The documents of a partition, in the order of its slices and of their records.

    What the path said (``partition.key``) fills doc_type, date and tenant where the record says nothing.

    Raises:
        SourceChanged: an object is not the listed one.
    """
    reader = open_reader(source)
    # These formats have no fields to declare: the reader gives id, title and text.
    wanted = FieldsSettings() if source.format in ("text", "markdown") else source.fields
    key = dict(partition.key)
    for piece in partition.slices:
        for found in reader.read(store, piece):
            if isinstance(found, Broken):
                sample = found.sample[:_SAMPLE]
                reject = Reject(found.cause, found.reason, str(found.position), sample=sample)
                rejects.add(reject, key.get("doc_type"))
                continue
            if (document := _document_or_reject(found, wanted, key, rejects)) is not None:
                yield document


def _document_or_reject(
    record: Record, wanted: FieldsSettings, key: dict[str, str], rejects: Rejects
) -> Document | None:
    try:
        return _document(record, wanted, key)
    except FieldError as error:
        rejects.add(_reject(record, wanted, error), _doc_type(record, wanted, key))
    except BaseException as error:
        reason = blame_document(error, "reading")
        rejects.add(Reject("poison_document", reason, str(record.position)), key.get("doc_type"))
    return None


def _doc_type(record: Record, wanted: FieldsSettings, key: dict[str, str]) -> str | None:
    """As far as it can be told of a record that is no document."""
    with suppress(FieldError):
        return Fields(record.fields).label(wanted.doc_type) or key.get("doc_type")
    return key.get("doc_type")


def _document(record: Record, wanted: FieldsSettings, key: dict[str, str]) -> Document:
    fields = Fields(record.fields)
    place = record.position
    document_id = f"{place.key}#{place.offset}" if wanted.id is None else fields.required_id(wanted.id)
    text = fields.required_text(wanted.text)
    date = fields.date(wanted.date)
    tenant = fields.label(wanted.tenant) or key.get("tenant")
    if wanted.tenant and tenant is None:
        # Without its tenant a document would be everybody's.
        raise FieldError("missing_field", fields.missing(wanted.tenant))
    return Document(
        id=document_id,
        uri=fields.label(wanted.uri) or place.key,
        title=fields.text(wanted.title) or "",
        text=text,
        position=place,
        doc_type=fields.label(wanted.doc_type) or key.get("doc_type"),
        date=date or key.get("date") or key.get("day"),
        tenant=tenant,
        metadata=fields.metadata(wanted.metadata_types),
    )


def _reject(record: Record, wanted: FieldsSettings, error: FieldError) -> Reject:
    document_id = None
    if wanted.id is not None:
        with suppress(FieldError):
            document_id = Fields(record.fields).required_id(wanted.id)
    text = record.fields.get(wanted.text)
    sample = text[:_SAMPLE].encode("utf-8", "replace").decode() if isinstance(text, str) else ""
    return Reject(error.cause, error.reason, str(record.position), document_id, sample)
