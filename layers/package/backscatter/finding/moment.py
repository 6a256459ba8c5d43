"""Times as alerts write them, read exactly: integer nanoseconds, never by way of a float."""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: Nanoseconds that fit the tables' int64; 2262-04-11.
LATEST = 2**63 - 1

_SECOND = 10**9

_DATED = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9})[0-9]{0,9})?)?"
    r"\ ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_EPOCH = re.compile(r"(?P<second>[0-9]{1,11})(?:\.(?P<fraction>[0-9]{1,9})[0-9]{0,9})?")


def parse_moment(text: str) -> int:
    """Nanoseconds since 1970-01-01 UTC of an RFC 3339 time or of epoch seconds.

    Besides RFC 3339: a space for the T, no seconds, a zone without colon (Suricata), no zone at all, which is UTC
    (Sguil, GuardDuty through Athena), and a leap second, which is the second after it.

    Raises:
        ValueError: the text is no time, or one that 64 bits of nanoseconds do not hold.
    """
    if epoch := _EPOCH.fullmatch(text):
        moment = int(epoch["second"]) * _SECOND + _fraction(epoch["fraction"])
    elif dated := _DATED.fullmatch(text):
        day = datetime.strptime(dated["date"], "%Y-%m-%d").replace(tzinfo=UTC)
        hour, minute, second = int(dated["hour"]), int(dated["minute"]), int(dated["second"] or 0)
        if hour > 23 or minute > 59 or second > 60:
            raise ValueError(f"{text!r} is no time of day")
        seconds = int(day.timestamp()) + hour * 3600 + minute * 60 + second - _zone(dated["zone"])
        moment = seconds * _SECOND + _fraction(dated["fraction"])
    else:
        raise ValueError(f"{text[:60]!r} is no time")
    if not 0 <= moment <= LATEST:
        raise ValueError(f"{text!r} is outside of the years 1970 to 2262")
    return moment


def _fraction(digits: str | None) -> int:
    return int(digits.ljust(9, "0")) if digits else 0


def _zone(text: str | None) -> int:
    """Seconds east of Greenwich."""
    if not text or text[0] not in "+-":
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds
