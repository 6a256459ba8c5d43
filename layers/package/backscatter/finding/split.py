"""Cuts a file of alerts into documents: JSON objects in any layout and events of Sguil's text, in any mixture.

JSON may come one object a line, pretty-printed, in arrays, or one object behind the other; brackets and commas between
objects are separators and nothing more, so a broken object costs itself and the rest of its line, even inside an
array. A file that somebody cut or tore keeps every object that is whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from backscatter.finding.sguil import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of a file: a JSON object, the lines of a Sguil event, or (`fault`) something unreadable.

    `line` counts from 1; `text` is the original.
    """

    line: int
    text: str
    json: dict[str, Any] | None = None
    event: list[str] | None = None
    fault: str = ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON (RFC 8259)")


_DECODER = json.JSONDecoder(parse_constant=_refuse)

#: How far a JSON object may reach, tried one after the other: the usual cheaply, the largest at all.
_REACHES = (1 << 16, 1 << 20, 1 << 26)
#: A number, a literal or an escape that is cut by the end of the text fails this close to it.
_CUT = 16

_BETWEEN = re.compile(r"[\s,\[\]\x1e]*")  # 1e: RFC 7464 puts it before each object
_RULE = re.compile(r"[ \t]*[-=]{3,}[ \t]*")
_DEEPEST_INDENT = 64

_BRACKET = re.compile(r'[{}\[\]]|"(?:[^"\\]|\\.)*+"', re.DOTALL)
#: No alert nests deeper. The decoder itself gives up only thousands deep, and torn lines can make it try at each line.
_DEEPEST = 100


def split(text: str) -> Iterator[Document]:
    """The documents of a text, in order; nothing of it is passed over in silence but white space and rules."""
    at, line, depth, line_end = 0, 1, 0, -1
    stray: tuple[int, int, str] | None = None  # first line, last line and text of what is no document
    while True:
        between = _BETWEEN.match(text, at)
        assert between is not None
        skipped = between.group()
        line += skipped.count("\n")
        depth += skipped.count("[") - skipped.count("]")
        at = between.end()
        if at >= len(text):
            break
        if at > line_end:
            newline = text.find("\n", at)
            line_end = len(text) if newline < 0 else newline
        document, end = _document(text, at, line, line_end)
        if document is None:
            here = text[at : min(end, at + 200)]
            if not _RULE.fullmatch(here):
                stray = (stray[0], line, stray[2]) if stray else (line, line, here)
        else:
            if stray:
                yield _strayed(*stray)
                stray = None
            yield document
        line += text.count("\n", at, end)
        at = end
    if stray:
        yield _strayed(*stray)
    if depth > 0:
        yield Document(line, "", fault="the file ends inside of a JSON array: it was cut")


def _strayed(first: int, last: int, text: str) -> Document:
    lines = f"lines {first} to {last} are" if last > first else "this is"
    return Document(first, text, fault=f"{lines} no alert of a format that we read: begins {text[:40]!a}")


def _document(text: str, at: int, line: int, line_end: int) -> tuple[Document | None, int]:
    """The document that begins here and where it ends; None and the end of the line where none begins."""
    if text[at] == "{":
        return _json(text, at, line, line_end)
    if HEADER.fullmatch(text[at : min(line_end, at + 200)].rstrip()):
        end = _next_start(text, line_end, _DEEPEST_INDENT)
        whole = text[at:end].rstrip()
        return Document(line, whole, event=whole.split("\n")), end
    return None, line_end


def _json(text: str, at: int, line: int, line_end: int) -> tuple[Document, int]:
    """A JSON object. It is first looked for on its own line: a torn line must not swallow the one after it."""
    fault = ""
    for end in sorted({min(stop, at + reach) for stop in (line_end, len(text)) for reach in _REACHES}):
        window = text[at:end]
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
            return Document(line, window[:length], json=value), at + length
    indent = at - text.rfind("\n", max(0, at - _DEEPEST_INDENT), at) - 1
    end = _next_start(text, line_end, min(indent, _DEEPEST_INDENT))
    return Document(line, text[at:end], fault=fault), end


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


def _next_start(text: str, line_end: int, indent: int) -> int:
    """Where the next line begins that looks like the start of a document, at most that far indented.

    What is indented further lies inside of the broken object.
    """
    start = re.compile(rf"^[ \t\[,]{{0,{indent}}}\{{|^[ \t]*Count:", re.MULTILINE)
    found = start.search(text, line_end + 1) if line_end < len(text) else None
    return found.start() if found else len(text)
