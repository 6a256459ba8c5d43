"""Fields of an alert, read with suspicion: every value is typed, bounded and named in the error when it is wrong."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from backscatter.errors import FindingError
from backscatter.finding.moment import parse_moment
from backscatter.finding.unsaid import NOTHING, Unsaid
from backscatter.flow.protocol import proto_name

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longest texts that are kept, in characters.
TITLE_CHARS, NAME_CHARS, ORIGINAL_CHARS = 500, 300, 32768

#: Names that alerts use (Suricata takes them from /etc/protocols) -> IP protocol number (IANA).
PROTOCOL_NUMBERS = {
    "ICMP": 1,
    "IGMP": 2,
    "IP-IN-IP": 4,
    "IPIP": 4,
    "TCP": 6,
    "UDP": 17,
    "IPV6": 41,
    "GRE": 47,
    "ESP": 50,
    "AH": 51,
    "ICMP6": 58,
    "ICMPV6": 58,
    "IPV6-ICMP": 58,
    "OSPF": 89,
    "PIM": 103,
    "VRRP": 112,
    "SCTP": 132,
}

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an alert stands: the name of its file or event, and its lines (from 1; 0 for none).

    `within` is the element of a list that the line holds, or the byte of a file without lines; `unsaid` is what the
    alerts of the file do not say themselves.
    """

    name: str
    line: int = 0
    within: str = ""
    last: int = 0
    unsaid: Unsaid = NOTHING

    def __str__(self) -> str:
        return (f"{self.name}:{self.line}" if self.line else self.name) + (f" {self.within}" if self.within else "")

    def error(self, message: str) -> FindingError:
        """The error that names this place."""
        return FindingError(self.name, self.line, f"{self.within}: {message}" if self.within else message, self.last)


def clean(text: str, limit: int) -> str:
    """The text without lone surrogates, which no output can encode, cut at `limit` characters."""
    text = _SURROGATES.sub("\ufffd", text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Fields:
    """A JSON object of an alert. Names match whatever the case of their first letter: AWS writes both.

    A field that is absent, null or "" is None. Every other value that does not fit raises FindingError.
    """

    def __init__(self, document: Mapping[str, object], place: Place, path: str = "") -> None:
        self.place = place
        self._path = path
        self._document = document

    def _value(self, name: str) -> object:
        value = self._document.get(name)
        if value is None:
            value = self._document.get(name[:1].swapcase() + name[1:])
        return None if value == "" else value

    def _wrong(self, name: str, value: object, wanted: str) -> FindingError:
        return self.place.error(f"field {self._path}{name}: {_shown(value)} is no {wanted}")

    def __contains__(self, name: str) -> bool:
        return self._value(name) is not None

    def child(self, *names: str) -> Fields:
        """The object under these names; an empty one where it is absent."""
        fields = self
        for name in names:
            value = fields._value(name)
            if value is not None and not isinstance(value, Mapping):
                raise fields._wrong(name, value, "object")
            fields = Fields(value or {}, self.place, f"{fields._path}{name}.")
        return fields

    def children(self, name: str, limit: int) -> Iterator[Fields]:
        """The objects of a list; none where it is absent. Raises FindingError beyond `limit` of them."""
        values = self._value(name)
        if values is None:
            return
        if not isinstance(values, list) or len(values) > limit:
            raise self._wrong(name, values, f"list of at most {limit} objects")
        for number, value in enumerate(values):
            if not isinstance(value, Mapping):
                raise self._wrong(f"{name}[{number}]", value, "object")
            yield Fields(value, self.place, f"{self._path}{name}[{number}].")

    def text(self, name: str, limit: int = NAME_CHARS) -> str:
        """A text, or a number as text; "" where it is absent."""
        value = self._value(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(name, value, "text")
        return clean(value if isinstance(value, str) else _digits(value), limit)

    def identifier(self, name: str) -> str:
        """A text that tells things apart, so it is never cut to the same as another; "" where it is absent."""
        whole = self.text(name, sys.maxsize)
        if len(whole) <= NAME_CHARS:
            return whole
        digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
        return f"{whole[: NAME_CHARS - len(digest) - 1]}…{digest}"

    def texts(self, name: str, limit: int) -> list[str]:
        """A list of texts; empty where it is absent."""
        values = self._value(name)
        if values is None:
            return []
        if not isinstance(values, list) or len(values) > limit or not all(isinstance(value, str) for value in values):
            raise self._wrong(name, values, f"list of at most {limit} texts")
        return [clean(value, NAME_CHARS) for value in values]

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number in [low, high], also when it is written as text."""
        value = self._value(name)
        if value is None:
            return None
        number = _whole(value)
        if number is None or not low <= number <= high:
            raise self._wrong(name, value, f"whole number from {low} to {high}")
        return number

    def integers(self, name: str, limit: int, high: int) -> list[int]:
        """A list of whole numbers in [0, high]; empty where it is absent."""
        values = self._value(name)
        if values is None:
            return []
        numbers = [_whole(value) for value in values] if isinstance(values, list) and len(values) <= limit else [None]
        fitting = [number for number in numbers if number is not None and 0 <= number <= high]
        if len(fitting) != len(numbers):
            raise self._wrong(name, values, f"list of at most {limit} numbers up to {high}")
        return fitting

    def port(self, name: str) -> int | None:
        """A port; 0, which sources write where they know none, is None."""
        return self.integer(name, 0, 65535) or None

    def truth(self, name: str) -> bool:
        """True for true and "true"; False for anything else."""
        value = self._value(name)
        return value is True or (isinstance(value, str) and value.lower() == "true")

    def measure(self, name: str) -> float | int | str | None:
        """A number or a short text as the source gives it, such as a severity."""
        value = self._value(name)
        if value is None:
            return None
        if isinstance(value, str):
            return clean(value, 60)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
            raise self._wrong(name, value, "number that fits 53 bits")
        return value

    def moment(self, name: str) -> int | None:
        """A time, in ns since 1970-01-01 UTC; see parse_moment."""
        value = self._value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(name, value, "time")
        try:
            return parse_moment(value if isinstance(value, str) else _digits(value))
        except ValueError as error:
            raise self._wrong(name, value, "time") from error

    def address(self, name: str) -> str | None:
        """An IP address in its usual form; a zone index is left out."""
        value = self._value(name)
        if value is None:
            return None
        try:
            return normal_address(value)
        except ValueError as error:
            raise self._wrong(name, value, "IP address") from error

    def protocol(self, name: str) -> str | None:
        """A protocol as Tuple.proto has it; None for 0 and for names that name no IP protocol."""
        value = self._value(name)
        if value is None:
            return None
        number = _whole(value)
        if number is None and isinstance(value, str):
            number = PROTOCOL_NUMBERS.get(value.upper(), 0)
        if number is None or not 0 <= number <= 255:
            raise self._wrong(name, value, "IP protocol")
        return protocol_name(number)


def protocol_name(number: int) -> str | None:
    """A protocol as Tuple.proto has it; None for 0, which no conversation has."""
    return proto_name(number) if number else None


def icmp_of(proto: str | None, ip: str | None) -> str | None:
    """The protocol, where a source calls ICMP and ICMPv6 the same: the address tells them apart."""
    return "icmp6" if proto == "icmp" and ip is not None and ":" in ip else proto


def normal_address(value: object) -> str:
    """An IP address in its usual form. Raises ValueError where the value is none."""
    if not isinstance(value, str) or len(value) > 100:
        raise ValueError("not an IP address")
    return _normal_address(value)


@lru_cache(maxsize=1 << 14)
def _normal_address(text: str) -> str:
    return str(ipaddress.ip_address(text.strip().partition("%")[0]))


def _whole(value: object) -> int | None:
    """The whole number that a JSON value says, None for none. Texts longer than 19 digits say none that we use."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    return None


def _digits(number: float) -> str:
    """A number as plain decimal digits, as far as it is a sensible one."""
    if isinstance(number, int):
        return str(number) if abs(number) < 10**18 else "huge"
    if not math.isfinite(number) or abs(number) >= 1e18:
        return "huge"
    shortest = repr(number)  # 1664459365.848468 has no more digits than that, though the float does
    return f"{number:.9f}".rstrip("0").rstrip(".") if "e" in shortest else shortest.removesuffix(".0")


def _shown(value: object) -> str:
    """A hostile value, short and printable."""
    if isinstance(value, Mapping | list):
        return f"a{'n object' if isinstance(value, Mapping) else ' list'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a huge number"
    return ascii(value)[:80]
