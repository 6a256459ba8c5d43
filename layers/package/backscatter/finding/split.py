"""Cuts a file of alerts into documents: JSON objects in any layout, events and lines of text formats, in any mixture.

JSON may come one object a line, pretty-printed, in arrays, or one object behind the other; brackets and commas between
objects are separators and nothing more, so a broken object costs itself and the rest of its line, even inside an
array. A file that somebody cut or tore keeps every object that is whole. Zeek's TSV and Snort's CSV may name their
columns in a header, which holds for the lines after it. The file is read as it is cut, and never held as a whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from backscatter.finding import snort_csv, snort_text, zeek
from backscatter.finding.held import Held
from backscatter.finding.sguil import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of a file: a JSON object, an alert of a text format, or (`fault`) something unreadable.

    line, last  its first and last line, from 1
    text        the original; of what is no alert only the beginning
    form        "json", "sguil", "snort fast", "snort full", "snort csv", "zeek"; "" with a fault
    fields      the object, or the fields of a line by the names of their columns
    """

    line: int
    last: int
    text: str
    form: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON (RFC 8259)")


_DECODER = json.JSONDecoder(parse_constant=_refuse)

#: How far a JSON object may reach, tried one after the other: the usual cheaply, the largest at all.
_REACHES = (1 << 16, 1 << 20, 1 << 26)
_FARTHEST = _REACHES[-1]
#: A number, a literal or an escape that is cut by the end of the text fails this close to it.
_CUT = 16
#: The longest line of an alert in text, in characters.
_LONGEST_LINE = 1 << 16
#: Held at least, from the place that is read.
_AHEAD = 1 << 10

#: 1e: RFC 7464 puts it before each object. Snort's alerts begin [**], which is no array.
_BETWEEN = re.compile(r"(?:[\s,\]\x1e]|\[(?!\*\*\]))*")
#: Among rows of columns a comma stands for an empty field, and a bracket may begin a row.
_BETWEEN_ROWS = re.compile(r"[\s\x1e]*")
#: An array of objects: no row begins like it.
_ARRAY = re.compile(r"\[[ \t]*(?:\{|$)")
#: What these looked at to tell a bracket of theirs.
_TOLD_BY = 8
_RULE = re.compile(r"[ \t]*[-=]{3,}[ \t]*")
_DEEPEST_INDENT = 64

_BRACKET = re.compile(r'[{}\[\]]|"(?:[^"\\]|\\.)*+"', re.DOTALL)
#: No alert nests deeper. The decoder itself gives up only thousands deep, and torn lines can make it try at each line.
_DEEPEST = 100


class _Columns:
    """The header that is in force, of Zeek's TSV or Snort's CSV; a line of columns is read by it."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._named = columns
        self._zeek: zeek.Header | None = None
        self._csv: tuple[str, ...] = columns

    @property
    def in_force(self) -> bool:
        """Whether a line of no other format is a row."""
        return self._zeek is not None or bool(self._csv)

    def directive(self, line: str) -> bool:
        """Whether the line is part of a header; what it says holds from here on."""
        name = zeek.directive(line)
        if name is None:
            columns = snort_csv.header(line)
            if columns is not None:
                self._zeek, self._csv = None, columns
            return columns is not None
        if name == "close":
            self.end()
        else:
            if name == "separator" or self._zeek is None:
                self._zeek = zeek.Header()
            self._zeek = self._zeek.told(line)
            self._csv = self._named
        return True

    def end(self) -> None:
        """The rows are over; those of columns that somebody named may come again."""
        self._zeek, self._csv = None, self._named

    def row(self, line: str) -> tuple[str, dict[str, Any]] | None:
        """The line's format and its fields by name; None where it is no row. Raises ValueError if it does not fit."""
        if snort_csv.is_row(line):
            return "snort csv", snort_csv.row(line, self._csv)
        if self._zeek is not None:
            return "zeek", self._zeek.row(line)
        if self._csv:
            return "snort csv", snort_csv.row(line, self._csv)
        return None


def split(pieces: Iterable[str], columns: tuple[str, ...] = ()) -> Iterator[Document]:
    """The documents of a text, in order; nothing of it is passed over in silence but white space, rules and headers.

    Args:
        pieces: the text, one piece after the other.
        columns: names of the fields of CSV that has no header.
    """
    held, header = Held(pieces), _Columns(columns)
    at, line, depth = 0, 1, 0
    stray: tuple[int, int, str] | None = None  # first line, last line and text of what is no document
    while True:
        at = held.drop(at)
        whole = held.reach(at + _AHEAD) < at + _AHEAD
        between = (_BETWEEN_ROWS if header.in_force else _BETWEEN).match(held.text, at)
        assert between is not None
        # What decides about a bracket may not be held yet.
        end = between.end() if whole else min(between.end(), max(at, len(held.text) - _TOLD_BY))
        skipped = held.text[at:end]
        line += skipped.count("\n")
        depth += skipped.count("[") - skipped.count("]")
        at = end
        if at >= len(held.text) and held.ended:
            break
        if at + _TOLD_BY >= len(held.text) and not held.ended:
            continue
        document, end = _document(held, at, line, header)
        last = line + held.text.count("\n", at, end - 1)
        if document is not None:
            if stray:
                yield _strayed(*stray)
                stray = None
            if document.form or document.fault:
                yield Document(line, last, document.text, document.form, document.fields, document.fault)
        else:
            here = held.text[at : min(end, at + 200)]
            if not _RULE.fullmatch(here):
                stray = (stray[0], last, stray[2]) if stray else (line, last, here)
        line += held.text.count("\n", at, end)
        at = end
    if stray:
        yield _strayed(*stray)
    if depth > 0:
        yield Document(line, line, "", fault="the file ends inside of a JSON array: it was cut")


def _strayed(first: int, last: int, text: str) -> Document:
    return Document(first, last, text, fault=f"no alert of a format that we read: begins {text[:40]!a}")


def _document(held: Held, at: int, line: int, header: _Columns) -> tuple[Document | None, int]:
    """The document that begins here and where it ends; None and the end of the line where none begins.

    Its numbers of lines are left to the caller. One with neither form nor fault is a line of a header.
    """
    line_end = held.line_end(at, _FARTHEST)
    if held.text[at] == "{":
        return _json(held, at, line, line_end, rows=header.in_force)
    text = held.text[at : min(line_end, at + _LONGEST_LINE + 1)].rstrip("\r")
    if len(text) > _LONGEST_LINE:
        return None, line_end
    form = "sguil" if HEADER.fullmatch(text.rstrip()) else "snort full" if snort_text.FULL.match(text) else ""
    if form:
        end = _next_start(held, at, line_end, _DEEPEST_INDENT, blank=form == "snort full")
        return Document(line, line, held.text[at:end].rstrip(), form), end
    if snort_text.FAST.match(text):
        return Document(line, line, text, "snort fast"), line_end
    if header.in_force and _ARRAY.match(text):
        header.end()
        return Document(line, line, text), at + 1
    if header.directive(text):
        return Document(line, line, text), line_end
    try:
        row = header.row(text)
    except ValueError as error:
        return Document(line, line, text, fault=str(error)), line_end
    return (None if row is None else Document(line, line, text, *row)), line_end


def _json(held: Held, at: int, line: int, line_end: int, *, rows: bool) -> tuple[Document, int]:
    """A JSON object. It is first looked for on its own line: a torn line must not swallow the one after it."""
    fault = ""
    for end in _ends(held, at, line_end):
        window = held.text[at:end]
        if end > line_end and _nests_too_deeply(window):
            fault = "JSON that is nested too deeply"
            break
        try:
            value, length = _DECODER.raw_decode(window)
        except json.JSONDecodeError as error:
            fault = f"broken JSON: {error.msg} at character {error.pos + 1}"
            if not error.msg.startswith("Unterminated") and error.pos < len(window) - _CUT:
                break  # broken, not cut: looking further does not help
        except RecursionError:
            fault = "JSON that is nested too deeply"
            break
        except ValueError as error:  # NaN, Infinity, and integers of thousands of digits
            fault = f"broken JSON: {str(error)[:100]}"
            break
        else:
            return Document(line, line, window[:length], "json", value), at + length
    if rows:  # what follows are rows, which do not look like the start of anything
        return Document(line, line, held.text[at:line_end], fault=fault), line_end
    indent = at - held.text.rfind("\n", max(0, at - _DEEPEST_INDENT), at) - 1
    end = _next_start(held, at, line_end, min(indent, _DEEPEST_INDENT))
    return Document(line, line, held.text[at:end], fault=fault), end


def _ends(held: Held, at: int, line_end: int) -> Iterator[int]:
    """Where to look up to for the end of an object that begins here: within its line, then beyond."""
    for reach in _REACHES:
        yield min(line_end, at + reach)
        if at + reach >= line_end:
            break
    tried = line_end
    for reach in _REACHES:
        end = held.reach(at + reach)
        if end > tried:
            yield end
            tried = end


def _nests_too_deeply(text: str) -> bool:
    """Whether the object that begins here opens more brackets within each other than any alert does."""
    depth = 0
    for bracket in _BRACKET.finditer(text):
        if bracket[0] in "{[":
            depth += 1
        elif bracket[0] in "}]":
            depth -= 1
        if not 0 < depth <= _DEEPEST:
            break
    return depth > _DEEPEST


def _next_start(held: Held, at: int, line_end: int, indent: int, *, blank: bool = False) -> int:
    """Where the next line begins that looks like the start of a document, at most that far indented, or is empty.

    What is indented further lies inside of the broken object. Looked for as far as an object may reach.
    """
    start = re.compile(
        rf"^[ \t\[,]{{0,{indent}}}\{{|^[ \t]*Count:|^\[\*\*\]|{snort_text.TIME_START}|^#(?:separator|fields)"
        + (r"|^[ \t\r]*$" if blank else ""),
        re.MULTILINE,
    )
    looked, step = line_end + 1, 1 << 16
    while True:
        end = held.reach(min(looked + step, at + _FARTHEST))
        found = start.search(held.text, min(looked, end), end)
        whole = end < looked + step
        # A line that is not held as a whole may turn out to be no start, or an empty one.
        if found and (whole or held.text.find("\n", found.start(), end) >= 0):
            return found.start()
        if whole:
            return end
        newline = held.text.rfind("\n", looked, end)
        looked, step = (newline + 1 if newline >= 0 else looked), step * 4
