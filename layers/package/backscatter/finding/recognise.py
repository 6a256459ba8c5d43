"""From bytes to findings: which format it is shows in the content, never in a name.

A further format of JSON is a module with a predicate and a reader, and a row in FORMATS; one of text is told by `split`
and has a row in TEXTS.
"""

from __future__ import annotations

import codecs
import io
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from backscatter.capture.expand import Expanded
from backscatter.capture.limits import Limits
from backscatter.capture.reader import is_capture
from backscatter.errors import FindingError
from backscatter.finding import asff, eve, guardduty, ocsf, sguil, snort, snort_csv, snort_text, unified2, zeek
from backscatter.finding.fields import ORIGINAL_CHARS, Fields, Place, clean
from backscatter.finding.split import split
from backscatter.finding.unsaid import NOTHING, Unsaid

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
    Format("OCSF", ocsf.is_finding, ocsf.read),
    Format("GuardDuty", guardduty.is_finding, guardduty.read),
    Format("Zeek notice", zeek.is_notice, zeek.read),
    Format("Snort alert_json", snort.is_alert, snort.read),
)

#: Forms of `split` whose alerts are text -> what reads it; and those that have columns -> what reads the fields.
TEXTS: Mapping[str, Callable[[str, Place], Iterator[Finding]]] = {
    "sguil": lambda text, place: sguil.read(text.split("\n"), place),
    "snort fast": snort_text.read_fast,
    "snort full": snort_text.read_full,
}
COLUMNS: Mapping[str, Callable[[Mapping[str, object], Place], Iterator[Finding]]] = {
    "snort csv": snort_csv.read,
    "zeek": zeek.read,
}

#: Objects that hold findings in a list, as services and their command lines print them.
LISTS = ("findings", "Findings", "Records")

#: What a file may expand to: no alert file comes near, a bomb does. Nothing of it is held: this bounds time only.
LIMITS = Limits(expansion_ratio=200, ratio_from=1 << 24, expanded_bytes=1 << 36)
_SMALL_HEAD = 1 << 12
_PIECE = 1 << 16
_MOST_LISTED = 100_000
_DEEPEST_ENVELOPE = 3


def read_findings(
    data: bytes | BinaryIO, name: str, unsaid: Unsaid = NOTHING, limits: Limits = LIMITS, done: int = 0
) -> Iterator[Finding | FindingError]:
    """The findings of a file, in order, in whatever format and layout, plain or compressed.

    Args:
        data: the file's bytes, or a stream of them: it is read forward, and no more of it is held than an alert needs.
        name: what to call the file in messages.
        unsaid: what alerts may leave out, such as the year of their times.
        limits: how far a compressed file may expand.
        done: how many of the first are left out, as somebody took them before; lines of text are not even read.

    Yields:
        A Finding for each alert, and a FindingError with its lines (or its byte) for everything that could not be
        read. Events that are no alerts (EVE carries flows, dns, statistics) are no findings and are left out.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    source = Expanded(stream, name, limits)
    head = source.peek(_SMALL_HEAD)
    if unified2.is_unified2(head):
        found = chain(unified2.read(source.read, Place(name, unsaid=unsaid)), _trouble(source, name))
        yield from islice(found, done, None)
    elif is_capture(head):  # one clear word is better than a thousand about bad JSON
        yield FindingError(name, 0, "this is a packet capture and holds no alerts; name it among the captures")
    else:
        for document in split(_decoded(source), unsaid.columns):
            if done and document.form != "json":
                done -= 1  # it is one finding or one error, whichever
                continue
            for one in _of_document(document, Place(name, document.line, last=document.last, unsaid=unsaid)):
                if done:
                    done -= 1
                else:
                    yield one
        yield from islice(_trouble(source, name), done, None)


def _trouble(source: Expanded, name: str) -> Iterator[FindingError]:
    """Why the expanded stream ended before its time, if it did; asked once it was read."""
    if source.trouble:
        yield FindingError(name, 0, f"{source.trouble}; what came before was read")


def read_event(event: Mapping[str, object], origin: str) -> Iterator[Finding | FindingError]:
    """The findings of one event as EventBridge delivers it; `origin` is its id."""
    yield from _of_json(event, Place(origin), "", 0)


def _of_document(document: Document, place: Place) -> Iterator[Finding | FindingError]:
    if document.form == "json":
        yield from _of_json(document.fields, place, document.text, 0)
    elif document.form in TEXTS:
        yield from _kept(TEXTS[document.form](document.text, place), document.text)
    elif document.form:
        yield from _kept(COLUMNS[document.form](document.fields, place), document.text)
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


def _decoded(source: Expanded) -> Iterator[str]:
    """Text of the bytes: UTF-8, or UTF-16 where a byte order mark says so. What cannot be decoded is marked."""
    encoding = "utf-16" if source.peek(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    while data := source.read(_PIECE):
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)
