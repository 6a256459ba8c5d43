"""Zeek's notice.log, in JSON and in the TSV that its header describes.

Format: https://docs.zeek.org/en/current/scripts/base/frameworks/notice/main.zeek.html and
https://docs.zeek.org/en/current/log-formats.html. Many notices are about no connection and name one address or none.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backscatter.finding.fields import TITLE_CHARS, Fields, Place, icmp_of
from backscatter.finding.model import End, Finding, Tuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DIRECTIVE = re.compile(
    r"#(?P<name>separator|set_separator|empty_field|unset_field|path|open|close|fields|types)(?=[^A-Za-z_]|$)"
)
_ESCAPE = re.compile(r"\\(?:x(?P<digits>[0-9A-Fa-f]{2})|\\)")
_LONGEST_SEPARATOR = 10
_MOST_FIELDS = 500
_CONTAINER = re.compile(r"(?:set|vector)\[")


def directive(line: str) -> str | None:
    """The name of a line of a log's header; None for any other line."""
    told = _DIRECTIVE.match(line)
    return told["name"] if told else None


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a TSV log says, of the lines after it."""

    separator: str = "\t"
    set_separator: str = ","
    empty: str = "(empty)"
    unset: str = "-"
    path: str = ""
    fields: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    def told(self, line: str) -> Header:
        """The header with one more of its lines."""
        name = directive(line) or ""
        if name == "separator":  # the one line that has a space there
            return replace(self, separator=_unescaped(line[len("#separator") :].strip())[:_LONGEST_SEPARATOR] or "\t")
        values = tuple(line.split(self.separator)[1 : _MOST_FIELDS + 1])
        value = values[0] if values else ""
        match name:
            case "set_separator":
                return replace(self, set_separator=_unescaped(value) or ",")
            case "empty_field":
                return replace(self, empty=value)
            case "unset_field":
                return replace(self, unset=value)
            case "path":
                return replace(self, path=value)
            case "fields":
                return replace(self, fields=values)
            case "types":
                return replace(self, types=values)
        return self

    def row(self, line: str) -> dict[str, Any]:
        """The fields of a row of notices by name; those that are unset are left out.

        Raises ValueError where the row does not fit the header, or its log holds no notices.
        """
        if not self.fields:
            raise ValueError("a row of a Zeek log whose header names no fields")
        if self.path.startswith("notice") or (not self.path and "note" in self.fields):
            values = line.split(self.separator)
            if len(values) != len(self.fields):
                raise ValueError(f"a row of {len(values)} fields in a Zeek log of {len(self.fields)}")
            types = self.types if len(self.types) == len(self.fields) else ("string",) * len(self.fields)
            told = zip(self.fields, types, values, strict=True)
            return {name: self._value(kind, value) for name, kind, value in told if value != self.unset}
        raise ValueError(f"a row of Zeek's {self.path[:40]!a} log: only notice logs hold alerts")

    def _value(self, kind: str, value: str) -> str | list[str]:
        if _CONTAINER.match(kind):
            return [] if value == self.empty else [_unescaped(each) for each in value.split(self.set_separator)]
        return "" if value == self.empty else _unescaped(value)


def is_notice(document: Mapping[str, object]) -> bool:
    """Whether a JSON object is a line of notice.log."""
    return isinstance(document.get("note"), str) and "ts" in document and ("msg" in document or "actions" in document)


def read(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of one notice. Raises FindingError naming the field."""
    told = Fields(document, place)
    moment = told.moment("ts")
    conversation = _conversation(told)
    message, more = told.text("msg", TITLE_CHARS), told.text("sub", TITLE_CHARS)
    yield Finding(
        id=_id(told, conversation),
        source="zeek",
        type=told.text("note"),
        title=": ".join(part for part in (message, more) if part)[:TITLE_CHARS] or told.text("note"),
        severity=None,
        first_seen=moment,
        last_seen=moment,
        tuples=(conversation,) if conversation.a.ip or conversation.b.ip else (),
        origin=str(place),
    )


def _conversation(told: Fields) -> Tuple:
    """The connection's originator and responder; where there was none, the hosts that the notice names."""
    a, b = told.address("id.orig_h"), told.address("id.resp_h")
    if a is None and b is None:
        a, b = told.address("src"), told.address("dst")
        source_port, target_port = None, _port(told, "p")
    else:
        source_port, target_port = _port(told, "id.orig_p"), _port(told, "id.resp_p")
    proto = icmp_of(told.protocol("proto"), a or b)
    if proto in ("icmp", "icmp6"):  # what stands there are type and code
        source_port = target_port = None
    return Tuple(proto, End(a, source_port), End(b, target_port))


def _port(told: Fields, name: str) -> int | None:
    """A port, also as Zeek's scripts write it, `80/tcp`."""
    text = told.text(name, 20)
    return Fields({name: text.partition("/")[0]}, told.place).port(name)


def _id(told: Fields, conversation: Tuple) -> str:
    """An id from what makes the notice itself: a notice has none."""
    essence = [
        *(told.text(name, TITLE_CHARS) for name in ("ts", "uid", "fuid", "note", "msg", "sub", "src", "dst", "n")),
        conversation.proto,
        conversation.a.ip,
        conversation.a.port,
        conversation.b.ip,
        conversation.b.port,
    ]
    return hashlib.sha256(json.dumps(essence).encode()).hexdigest()[:32]


def _unescaped(text: str) -> str:
    r"""The text with its \x09 spelled out: Zeek escapes separators and what is not printable, byte by byte."""
    if "\\" not in text:
        return text
    whole = _ESCAPE.sub(lambda told: chr(int(told["digits"], 16)) if told["digits"] else "\\", text)
    try:
        return whole.encode("latin-1").decode()
    except UnicodeError:
        return whole
