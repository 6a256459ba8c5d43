"""What alerts leave unsaid and somebody else has to say: the year and the zone of their times, the names of columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_SECOND = 10**9
_DAY = 86400 * _SECOND
_YEAR = 365 * _DAY

#: A date in an object's key, as log shippers write it: 2007/03/20, 2007-03-20, year=2007/month=03/day=20, 20070320.
_DATE = re.compile(
    r"(?<![0-9])(?:year=)?(?P<year>(?:19|20)[0-9]{2})(?P<between>[-/_.]|)(?:month=)?(?P<month>[0-9]{2})"
    r"(?P=between)(?:day=)?(?P<day>[0-9]{2})(?![0-9])"
)


@dataclass(frozen=True, slots=True)
class Unsaid:
    """What is known of a file of alerts besides its bytes.

    span     ns: times without a year are of the year that puts them between these two, or nearest to them
    zone     of times that name none
    columns  names of the fields of CSV that has no header
    """

    span: tuple[int, int] | None = None
    zone: tzinfo = UTC
    columns: tuple[str, ...] = ()


#: Where nobody says anything.
NOTHING = Unsaid()


def year_up_to(moment: int) -> tuple[int, int]:
    """The span of alerts written by then (ns): a day more for clocks and zones, and less than a year in all."""
    return max(0, moment - _YEAR + _DAY + 1), moment + _DAY


def logged_by(key: str, modified: int) -> tuple[int, int]:
    """The span of the alerts in an object: by the last date in its key, else by when it was last modified (ns).

    A date after the upload says something else, and is left out.
    """
    days = []
    for found in _DATE.finditer(key):
        try:
            day = datetime(int(found["year"]), int(found["month"]), int(found["day"]), tzinfo=UTC)
        except ValueError:
            continue  # 2007/31/12 is no date that we know
        end = int((day + timedelta(days=1)).timestamp()) * _SECOND
        if 0 < end <= modified + 2 * _DAY:
            days.append(end)
    return year_up_to(days[-1] if days else modified)
