from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.finding.moment import parse_logged
from backscatter.finding.unsaid import Unsaid, logged_by, year_up_to

SECOND = 10**9
DAY = 86400 * SECOND


def moment(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp()) * SECOND


@given(st.datetimes(datetime(1972, 1, 1), datetime(2200, 1, 1)), st.integers(0, 364))  # noqa: DTZ001
def test_an_alert_of_the_year_before_the_files_date_gets_its_own_year(written, days):
    """Whatever the day, and whether a leap day lies in between."""
    uploaded = int(written.replace(tzinfo=UTC).timestamp()) * SECOND
    at = max(0, uploaded - days * DAY)
    text = datetime.fromtimestamp(at // SECOND, UTC).strftime("%m/%d-%H:%M:%S")
    placed = parse_logged(text, Unsaid(span=year_up_to(uploaded)))
    if days < 364:
        assert placed.moment == at
    assert placed.note == ""


@pytest.mark.parametrize(
    ("text", "uploaded", "year"),
    [
        ("12/31-23:59:59", (2008, 1, 1, 0, 5), 2007),
        ("01/01-00:00:01", (2007, 12, 31, 23, 59), 2008),  # a clock or a zone ahead
        ("03/20-18:04:19", (2008, 3, 1), 2007),
        ("02/29-12:00:00", (2023, 6, 1), 2024),  # the nearest that there is
        ("02/29-12:00:00", (2021, 6, 1), 2020),
    ],
)
def test_a_time_without_a_year_is_of_the_year_before_the_upload(text, uploaded, year):
    placed = parse_logged(text, Unsaid(span=logged_by("alerts/alert.fast", moment(*uploaded))))
    assert datetime.fromtimestamp(placed.moment // SECOND, UTC).year == year


@pytest.mark.parametrize(
    "key",
    [
        "alerts/2007/03/20/alert.fast",
        "alerts/alert-20070320.log.gz",
        "alerts/2007-03-20T18.log",
        "alerts/year=2007/month=03/day=20/alert",
        "alerts/1999/01/01/2007_03_20",
    ],
)
def test_a_date_in_the_key_says_more_than_the_upload(key):
    assert logged_by(key, moment(2026, 1, 1))[1] == moment(2007, 3, 22)


@pytest.mark.parametrize("key", ["alerts/2007/31/12", "alerts/20300101", "alerts/12007032011", "alerts/1.2.3", ""])
def test_what_is_no_date_before_the_upload_says_nothing(key):
    assert logged_by(key, moment(2026, 1, 1)) == year_up_to(moment(2026, 1, 1))
