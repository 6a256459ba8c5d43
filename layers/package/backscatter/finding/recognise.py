"""From bytes to findings: which format it is shows in the content, never in a name.

A further format is a module with a predicate and a reader, and a row in FORMATS.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from backscatter.capture.reader import open_capture
from backscatter.errors import CaptureError, FindingError
from backscatter.finding import asff, eve, guardduty, sguil
from backscatter.finding.fields import ORIGINAL_CHARS, Fields, Place, clean
from backscatter.finding.split import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backscatter.finding.model import Finding
    from backscatter.finding.split import Document


class Format(NamedTuple):
    """One format of JSON alerts."""

    name: str
    recognises: Callable[[Mapping[str, object]], bool]
    read: Callable[[Mapping[str, object], Place], Iterator[Finding]]


#: Looked at from the top; the first that recognises a document reads it.
FORMATS = (
    Format("AWS Network Firewall", eve.is_firewall_event, eve.read_firewall),
    Format("Suricata EVE", eve.is_event, eve.read),
    Format("Security Hub ASFF", asff.is_finding, asff.read),
    Format("GuardDuty", guardduty.is_finding, guardduty.read),
)

#: Objects that hold findings in a list, as services and their command lines print them.
LISTS = ("findings", "Findings", "Records")

#: No alert file of one hour comes near; a gzip bomb does.
EXPANDED_BYTES = 1 << 28
_EXPANSION_RATIO = 200
_SMALL = 1 << 24
_SMALL_HEAD = 1 << 12
_PIECE = 1 << 13
_GZIP = b"\x1f\x8b"
_MOST_LISTED = 100_000
_DEEPEST_ENVELOPE = 3


def read_findings(data: bytes, name: str, *, year: int | None = None) -> Iterator[Finding | FindingError]:
    """The findings of a file, in order, in whatever format and layout, gzip or plain.

    Args:
        data: the file's bytes.
        name: what to call the file in messages.
        year: of alerts whose times have none.

    Yields:
        A Finding for each alert, and a FindingError with its line for everything that could not be read. Events that
        are no alerts (EVE carries flows, dns, statistics) are no findings and are left out.
    """
    expanded, fault = _expanded(data)
    if _is_capture(expanded):
        yield FindingError(name, 0, "this is a packet capture and holds no alerts; name it among the captures")
        return
    for document in split(_decoded(expanded)):
        yield from _of_document(document, Place(name, document.line, year))
    if fault:
        yield FindingError(name, 0, fault)


def read_event(event: Mapping[str, object], origin: str) -> Iterator[Finding | FindingError]:
    """The findings of one event as EventBridge delivers it; `origin` is its id."""
    yield from _of_json(event, Place(origin), "", 0)


def _of_document(document: Document, place: Place) -> Iterator[Finding | FindingError]:
    if document.json is not None:
        yield from _of_json(document.json, place, document.text, 0)
    elif document.event is not None:
        yield from _kept(sguil.read(document.event, place), document.text)
    else:
        yield place.error(document.fault)


def _of_json(
    document: Mapping[str, object], place: Place, original: str, depth: int
) -> Iterator[Finding | FindingError]:
    """The findings of a JSON object: itself, the detail of an envelope, or the elements of its list."""
    detail = document.get("detail")
    if isinstance(detail, dict) and depth < _DEEPEST_ENVELOPE and ("detail-type" in document or "source" in document):
        for finding in _of_json(detail, place, original, depth + 1):
            yield finding if isinstance(finding, FindingError) else _placed(finding, document)
        return
    # An EVE alert may carry a field of any name: formats are asked before lists are.
    for form in FORMATS:
        if form.recognises(document):
            yield from _kept(form.read(document, place), original)
            return
    for field in LISTS:
        elements = document.get(field)
        if isinstance(elements, list) and depth < _DEEPEST_ENVELOPE:
            if len(elements) > _MOST_LISTED:
                yield place.error(f"field {field}: {len(elements)} elements, more than {_MOST_LISTED}")
                return
            for number, element in enumerate(elements):
                inside = replace(place, within=f"{place.within}{field}[{number}]")
                if isinstance(element, dict):
                    yield from _of_json(element, inside, original if len(elements) == 1 else "", depth + 1)
                else:
                    yield inside.error("not a JSON object")
            return
    names = ", ".join(ascii(name[:30]) for name in list(document)[:5])
    yield place.error(f"a JSON object of no alert format that we read (its fields: {names or 'none'})")


def _kept(findings: Iterator[Finding], original: str) -> Iterator[Finding | FindingError]:
    """The findings with their original; the error where one could not be read."""
    try:
        for finding in findings:
            yield replace(finding, original=clean(original, ORIGINAL_CHARS)) if original else finding
    except FindingError as error:
        yield error


def _placed(finding: Finding, envelope: Mapping[str, object]) -> Finding:
    """The finding with the envelope's account and region where it names none itself."""
    fields = Fields(envelope, Place(finding.origin))
    try:
        return replace(
            finding,
            account=finding.account or fields.text("account"),
            region=finding.region or fields.text("region"),
        )
    except FindingError:
        return finding  # an envelope with an account that is no text says nothing, and costs no finding


def _is_capture(data: bytes) -> bool:
    """Whether somebody gave us packets instead of alerts: one clear word is better than a thousand about bad JSON."""
    try:
        open_capture(io.BytesIO(data[:_SMALL_HEAD]), "")
    except CaptureError:
        return False
    return True


def _decoded(data: bytes) -> str:
    """Text of the bytes: UTF-8, or UTF-16 where a byte order mark says so. What cannot be decoded is marked."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def _expanded(data: bytes) -> tuple[bytes, str]:
    """The bytes without gzip (RFC 1952, several members too), and what was wrong with it, "" for nothing."""
    if data[:2] != _GZIP:
        return data, ""
    most = min(EXPANDED_BYTES, max(_SMALL, len(data) * _EXPANSION_RATIO))
    out = bytearray()
    member: zlib._Decompress | None = None
    at, piece = 0, b""
    # Small pieces: zlib copies what is left behind a member's end, and a hostile file is all ends of members.
    while piece or at < len(data):
        if not piece:
            piece = data[at : at + _PIECE]
            at += len(piece)
        if member is None:
            piece = piece.lstrip(b"\0")  # tapes pad
            if not piece:
                continue
            if piece[:1] != _GZIP[:1]:
                return bytes(out), f"{len(data) - at + len(piece)} bytes behind the gzip stream were not read"
            member = zlib.decompressobj(wbits=31)
        try:
            out += member.decompress(piece, most - len(out) + 1)
        except zlib.error as error:
            return bytes(out), f"damaged gzip: {error}; what came before was read"
        if len(out) > most:
            return bytes(out[:most]), f"gzip expands to more than {most} bytes: reading stopped there"
        piece = member.unused_data
        if member.eof:
            member = None
    return bytes(out), "" if member is None else "the gzip stream is cut short; what came before was read"
