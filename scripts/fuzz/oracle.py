"""What must hold for any bytes at all, of captures and of alert files.

An oracle returns one word, what became of the bytes, and raises for everything that must not happen.
"""

from __future__ import annotations

import io
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.capture.layout import Layout
from backscatter.capture.limits import Limits
from backscatter.capture.pick import expanding_read, pick
from backscatter.capture.reader import MOST_DAMAGE, open_capture
from backscatter.decode.columns import OK, PACKET, QUOTE, Packets
from backscatter.decode.decoder import Decoder
from backscatter.decode.line import packet_line
from backscatter.errors import CaptureError, FindingError
from backscatter.finding.model import Finding
from backscatter.finding.recognise import read_findings
from backscatter.finding.unsaid import Unsaid
from backscatter.flow.build import build_flows
from backscatter.flow.builder import FlowBuilder
from backscatter.flow.early import Early
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.record import flow_records
from backscatter.flow.table import FLOW, FLOW_QUOTE, FlowTable
from backscatter.report.attributes import attributes
from backscatter.report.chat import chat_message
from backscatter.report.mail import BODY_BYTES, SUBJECT_CHARS, mail
from backscatter.report.page import page, page_name
from backscatter.report.record import verdict_record
from backscatter.verdict.judge import judge
from backscatter.verdict.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.capture.reader import Reader
    from backscatter.capture.record import RecordBlock
    from backscatter.flow.columns import Built

NAME = "fuzzed"
#: Where times without a year are placed (ns).
YEAR_2007 = (1167609600 * 10**9, 1199145599 * 10**9)

#: The defaults let a small file ask for seconds of work; those of a function that reads uploads are set by its memory.
LIMITS = Limits(ratio_from=2**20, expanded_bytes=2**23)

#: Records whose every reading is looked at; a compressed input can hold millions.
MOST_LOOKED_AT = 2000

#: Packets in a batch and in a lot: what is built in many of them must be what is built at once.
BATCH, LOT = 5, 3

#: Findings that are judged of one input.
MOST_JUDGED = 30

EMPTY = TableScene([])


def must(condition: object, *told: object) -> None:
    """Raise AssertionError with what is told; unlike the statement it also does so under `python -O`."""
    if not condition:
        raise AssertionError(*told)


def check_capture(data: bytes) -> str:
    """The whole way from bytes to JSON. Only open_capture may refuse, and only with a CaptureError."""
    try:
        reader = open_capture(io.BytesIO(data), NAME, LIMITS)
    except CaptureError:
        return "refused"
    blocks = list(reader.blocks())
    _check_reader(reader, blocks)
    decoder = Decoder()
    early = Early(decoder.fragments)
    tables, passed = [], []
    for block in blocks:
        tables.append(decoder.decode(block))
        passed.append(early.through(tables[-1]))
    passed.append(early.rest())
    must(sum(map(len, passed)) == sum(map(len, tables)), "fragments that nobody gives back")
    _check_decoders(blocks, tables, decoder)
    for block in blocks:
        for i in range(min(len(block), MOST_LOOKED_AT)):
            must(packet_line(block, i).isprintable(), "a line that is not safe for a terminal")
    _check_picked(data, reader, blocks)
    packets = Packets.joined(passed)
    flows = build_flows(packets, decoder.scopes.values, decoder.tunnels.values)
    _check_flows(packets, flows)
    _check_batches(packets, flows)
    sensor = read_sensor("", [Piece(NAME, lambda: io.BytesIO(data))], LIMITS)
    must(len(sensor.table) == len(flows), "read_sensor found other flows")
    must(sum(census.packets for census in sensor.censuses) == len(packets), "the census counts other packets")
    if reader.damage:
        return "damaged"
    return "read" if len(packets) else "empty"


def _check_reader(reader: Reader, blocks: Sequence[RecordBlock]) -> None:
    before = -1
    for block in blocks:
        must(len(block), "an empty block")
        must((block.body >= 0).all() and (block.caplen >= 0).all() and (block.wirelen >= 0).all(), "a negative length")
        must((block.body + block.caplen <= len(block.data)).all(), "a record behind the end of its block")
        offsets = np.concatenate(([before], block.offset))
        must((np.diff(offsets) > 0).all(), "offsets that do not ascend")
        before = int(offsets[-1])
    must(before < reader.expanded, "a record behind the end of the stream")
    end = 0
    for damage in reader.damage:
        must(damage.length >= 0 and damage.offset >= end, "damage that overlaps", damage)
        end = damage.offset + damage.length
        must(end <= reader.expanded, "damage behind the end of the stream", damage)
    # behind so many places the rest is one entry, with sound records in between
    damages = reader.damage[: MOST_DAMAGE - 1]
    stretches = [(damage.offset, damage.offset + damage.length) for damage in damages]
    begins = np.concatenate([block.offset for block in blocks]) if blocks else np.zeros(0, np.int64)
    for begin, end in stretches:
        must(np.searchsorted(begins, begin) == np.searchsorted(begins, end), "a record inside damage", begin, end)


def _check_decoders(blocks: Sequence[RecordBlock], tables: Sequence[Packets], decoder: Decoder) -> None:
    reference = Decoder(vectorised=False)
    for block, mine in zip(blocks, tables, strict=True):
        must(len(mine) == len(block), "a packet table of another length than its block")
        must(mine.quotes.dtype == QUOTE, "quotes of another form")
        for name, (form, _) in PACKET.items():
            must(mine[name].dtype == np.dtype(form), "a column of another form", name)
        one, other = _named(mine, decoder), _named(reference.decode(block), reference)
        for name, column in one.items():
            must(column == other[name], "the decoders differ", name, _differing(column, other[name]))


def _named(packets: Packets, decoder: Decoder) -> dict[str, list[Any]]:
    """The columns with names in the place of their numbers, which depend on the order in which names are met."""
    columns = {name: packets[name].tolist() for name in PACKET}
    columns["scope"] = [decoder.scopes.values[number] for number in columns["scope"]]
    columns["tunnels"] = [decoder.tunnels.values[number] for number in columns["tunnels"]]
    return columns | {"quotes": packets.quotes.tolist()}


def _differing(one: Sequence[Any], other: Sequence[Any]) -> list[object]:
    """The first few places where two columns differ."""
    pairs = ((index, *pair) for index, pair in enumerate(itertools.zip_longest(one, other)))
    return list(itertools.islice((one for one in pairs if one[1] != one[2]), 3))


def _check_picked(data: bytes, reader: Reader, blocks: Sequence[RecordBlock]) -> None:
    """Every record can be had again by its offset, through a layout that was stored."""
    layout = Layout.from_json(json.loads(json.dumps(reader.layout.to_json())))
    wanted = {int(block.offset[i]): (block, i) for block in blocks for i in range(len(block))}
    wanted = dict(itertools.islice(wanted.items(), MOST_LOOKED_AT))
    read = expanding_read(io.BytesIO(data), NAME, LIMITS)
    for offset, found in pick(read, layout, wanted, LIMITS).items():
        block, i = wanted.pop(offset)
        must(_record(found, 0) == _record(block, i), "another record was picked", offset)
    must(not wanted, "records that cannot be picked", list(wanted)[:3])


def _record(block: RecordBlock, i: int) -> tuple[object, ...]:
    """A record without its time, which a simple packet block has not."""
    body, caplen = int(block.body[i]), int(block.caplen[i])
    frame = block.data[body : body + caplen].tobytes()
    return frame, caplen, int(block.wirelen[i]), int(block.linktype[i]), int(block.offset[i])


def _check_flows(packets: Packets, flows: FlowTable) -> None:
    """Every packet is in one flow, and flows can be told as JSON."""
    rows, ok = flows.rows, packets["status"] == OK
    for name, counted in (
        ("packets", int(np.count_nonzero(ok))),
        ("bytes", int(packets["ip_bytes"][ok].sum())),
        ("payload", int(packets["payload"][ok].sum())),
    ):
        total = int(rows[f"src_{name}"].sum() + rows[f"dst_{name}"].sum())
        must(total == counted, f"{name} are not conserved", total, counted)
    must(int(flows.quotes["count"].sum()) == len(packets.quotes), "quotes are not conserved")
    must((rows["start"][1:] >= rows["start"][:-1]).all() and (rows["start"] <= rows["end"]).all(), "flows out of time")
    for record in flow_records(flows):
        must(json.loads(json.dumps(record, allow_nan=False)) == record, "a flow that JSON tells otherwise")
        must(str(record["start"])[-1] == "Z" == str(record["end"])[-1], "a time that is none", record)


def _check_batches(packets: Packets, flows: FlowTable) -> None:
    built: list[Built] = []
    builder = FlowBuilder(built.append, batch=BATCH, lot=LOT)
    for part in _parts(packets):
        builder.add(part)
    builder.finish()
    whole = FlowTable.joined([FlowTable(*rows, flows.scopes, flows.tunnels) for rows in built])
    total = sum(int(whole.rows[f"{side}_packets"].sum()) for side in ("src", "dst"))
    must(total == int(np.count_nonzero(packets["status"] == OK)), "packets are not conserved in batches", total)
    if builder.late:
        return  # it says itself that flows may be cut
    must(len(whole) == len(flows), "batches make another number of flows", len(whole), len(flows))
    for form, batched, at_once in ((FLOW, whole.rows, flows.rows), (FLOW_QUOTE, whole.quotes, flows.quotes)):
        for name in form.names or ():
            one, other = batched[name].tolist(), at_once[name].tolist()
            must(one == other, "batches make other flows", name, _differing(one, other))


def _parts(packets: Packets) -> Iterator[Packets]:
    """The table in pieces of BATCH packets, each with its quotes."""
    if len(packets) > MOST_LOOKED_AT:
        yield packets
        return
    for begin in range(0, len(packets), BATCH):
        columns: dict[str, NDArray[Any]] = {
            name: column[begin : begin + BATCH].copy() for name, column in packets.columns.items()
        }
        of = packets.quotes["packet"]
        quotes = packets.quotes[(of >= begin) & (of < begin + BATCH)].copy()
        quotes["packet"] -= begin
        columns["quote"][:] = -1
        columns["quote"][quotes["packet"]] = np.arange(len(quotes))
        yield Packets(columns, quotes)


def check_alerts(data: bytes) -> str:
    """Bytes give findings and errors and nothing else; each finding gives a verdict that can be told in every way."""
    found = list(read_findings(data, NAME, Unsaid(span=YEAR_2007)))
    must(all(isinstance(one, Finding | FindingError) for one in found), "neither finding nor error")
    findings = [one for one in found if isinstance(one, Finding)]
    for error in found:
        if isinstance(error, FindingError):
            must(str(error).encode(), "an error without words")
    for finding in findings[:MOST_JUDGED]:
        _check_told(finding)
    if findings:
        return "read" if len(findings) == len(found) else "damaged"
    return "refused" if found else "empty"


def _check_told(finding: Finding) -> None:
    verdict = judge(finding, EMPTY, Settings())
    record = verdict_record(verdict)
    must(json.loads(json.dumps(record, allow_nan=False)) == record, "a verdict that JSON tells otherwise")
    notice = mail(verdict, previous="backscatter", revision="1")
    must(len(notice.subject) <= SUBJECT_CHARS and notice.subject.isascii() and notice.subject.isprintable(), "subject")
    must(len(notice.body.encode()) <= BODY_BYTES, "a mail that is too long")
    must(json.dumps(chat_message(verdict, previous="backscatter"), allow_nan=False).encode(), "chat message")
    must(all(attributes(verdict).values()), "an empty attribute")
    must(page(verdict).encode(), "page")
    must(page_name(verdict).isascii(), "page name")


ORACLES: Mapping[str, Callable[[bytes], str]] = {"captures": check_capture, "alerts": check_alerts}
