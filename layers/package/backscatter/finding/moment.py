"""Times as alerts write them, read exactly: integer nanoseconds, never by way of a float."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from backscatter.finding.unsaid import Unsaid

#: Nanoseconds that fit the tables' int64; 2262-04-11.
LATEST = 2**63 - 1

_SECOND = 10**9

_DATED = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9})[0-9]{0,9})?)?"
    r"\ ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
#: Snort's and Suricata's one-line logs: month first; a year of two digits with snort -y, of four from Suricata.
_LOGGED = re.compile(
    r"(?P<month>[0-9]{2})/(?P<day>[0-9]{2})(?:/(?P<year>[0-9]{4}|[0-9]{2}))?-"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?"
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


class Logged(NamedTuple):
    """A time of a log: ns since 1970-01-01 UTC, None where nothing tells its year; `note` says what was assumed."""

    moment: int | None
    note: str = ""


def parse_logged(text: str, unsaid: Unsaid) -> Logged:
    """The time of a Snort log, `MM/DD[/YY[YY]]-HH:MM:SS.ffffff`.

    One without a year is placed in the year that puts it within `unsaid.span` or nearest to it; where more than one
    does, in the last. Raises ValueError where the text is no such time, or a day that no such year has.
    """
    told = _LOGGED.fullmatch(text)
    if told is None:
        raise ValueError(f"{text[:60]!r} is no time of the form MM/DD-HH:MM:SS.ffffff")
    if told["year"]:
        year = int(told["year"]) + (2000 if len(told["year"]) == 2 else 0)
        moment = _in_year(told, year, unsaid)
        if moment is None:
            raise ValueError(f"{text!r} is no day of that year, or outside of the years 1970 to 2262")
        return Logged(moment)
    if _in_year(told, 2000, unsaid) is None:  # a leap year has every day that any year has
        raise ValueError(f"{text!r} is no day of the year or no time of the day")
    if unsaid.span is None:
        return Logged(None, "its time has no year, and neither a capture nor the file's date tells which")
    first, last = unsaid.span
    found: list[int] = []
    for around in (1, 8):  # years without a 29 February come up to seven in a row (1897 to 1903, 2097 to 2103)
        years = range(_year(first) - around, _year(last) + around + 1)
        found = found or [moment for year in years if (moment := _in_year(told, year, unsaid)) is not None]
    if not found:
        raise ValueError(f"{text!r} is in no year near {_year(first)}")
    within = [moment for moment in found if first <= moment <= last]
    if len(within) > 1:
        return Logged(within[-1], f"its time has no year and fits {len(within)} of them: the last was taken")
    return Logged(min(found, key=lambda moment: max(first - moment, moment - last)))


def _in_year(told: re.Match[str], year: int, unsaid: Unsaid) -> int | None:
    """The moment that a log's time is in a year; None where that year has none such."""
    second = int(told["second"])
    try:
        start = datetime(
            year,
            int(told["month"]),
            int(told["day"]),
            int(told["hour"]),
            int(told["minute"]),
            min(second, 59),
            tzinfo=unsaid.zone,
        )
        moment = (int(start.timestamp()) + second - min(second, 59)) * _SECOND + _fraction(told["fraction"])
    except (ValueError, OverflowError):
        return None
    return moment if second <= 60 and 0 <= moment <= LATEST else None


def _year(moment: int) -> int:
    return datetime.fromtimestamp(moment // _SECOND, UTC).year


def _fraction(digits: str | None) -> int:
    return int(digits.ljust(9, "0")) if digits else 0


def _zone(text: str | None) -> int:
    """Seconds east of Greenwich."""
    if not text or text[0] not in "+-":
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds
