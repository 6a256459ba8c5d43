from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.finding.moment import parse_moment

SIX_OCLOCK = 1174413859 * 10**9


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2007-03-20T18:04:19Z", SIX_OCLOCK),
        ("2007-03-20 18:04:19", SIX_OCLOCK),
        ("2007-03-20 18:04:19 UTC", SIX_OCLOCK),
        ("2007-03-20T19:04:19+0100", SIX_OCLOCK),
        ("2007-03-20T19:04:19+01:00", SIX_OCLOCK),
        ("2007-03-20T12:34:19-05:30", SIX_OCLOCK),
        ("2007-03-20T18:04", SIX_OCLOCK - 19 * 10**9),
        ("1174413859", SIX_OCLOCK),
        ("1174413859.731091", SIX_OCLOCK + 731_091_000),
        ("2007-03-20T18:04:19.731091001Z", SIX_OCLOCK + 731_091_001),
        ("2016-12-31T23:59:60Z", 1483228800 * 10**9),
    ],
)
def test_a_time_is_read_to_the_nanosecond_in_every_notation_that_alerts_use(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2007-03-20",
        "2007-13-20T00:00:00Z",
        "2007-02-30T00:00:00Z",
        "2007-03-20T24:00:00Z",
        "1969-12-31T23:59:59Z",
        "2263-01-01T00:00:00Z",
        "99999999999",
        "٢٠٠٧-03-20T18:04:19Z",
    ],
)
def test_what_is_no_time_that_tables_hold_is_refused(text):
    with pytest.raises(ValueError, match=r"time|day|month|outside"):
        parse_moment(text)


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2261, 1, 1)),  # noqa: DTZ001 -- the zone is drawn beside it
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["%z", "%:z"]),
)
def test_times_agree_with_the_standard_library(naive, minutes, zone):
    when = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = when.strftime("%Y-%m-%dT%H:%M:%S.%f") + (when.strftime("%z") if zone == "%z" else when.isoformat()[-6:])
    expected = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_moment(text) == expected
