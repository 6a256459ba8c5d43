from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.flow.record import rfc3339
from backscatter.store.naming import sensor_of, time_of


@pytest.mark.parametrize(
    ("keys", "sensor"),
    [
        (
            ["packet-captures/i-0abc/2026-11-22-18-00.pcap", "packet-captures/i-0abc/2026-11-22-18-15.pcap"],
            "packet-captures/i-0abc",
        ),
        (
            [
                "2026/11/22/18/my-elb_eu-west-1a_10.0.0.5_capture_20261122T1800.pcap",
                "2026/11/23/00/my-elb_eu-west-1a_10.0.0.5_capture_20261123T0000.pcap",
            ],
            "my-elb_eu-west-1a_10.0.0.5",
        ),
        (
            ["logs/2026/11/22/18/my-elb_eu-west-1a_2001:db8::5_capture_1.pcap"],
            "logs/my-elb_eu-west-1a_2001:db8::5",
        ),
        (["moloch/node/node-261122-00000001.pcap.zst", "moloch/node/node-261123-00000002.pcap"], "moloch/node"),
        (["tap1/2026/11/22/a.pcap", "tap1/2026/11/22/18/b.pcap", "tap1/2026-11-23/c.pcap"], "tap1"),
        (["tap1/year=2026/month=11/day=2/x.pcap"], "tap1"),
        (["a.pcap", "2026/11/22/b.pcap"], ""),
        (["tap1/1234/56/x.pcap"], "tap1/1234/56"),
    ],
)
def test_captures_of_one_sensor_are_named_alike(keys, sensor):
    assert [sensor_of(key) for key in keys] == [sensor] * len(keys)


def test_load_balancers_in_one_folder_stay_apart():
    keys = [f"2026/11/22/18/my-elb_eu-west-1a_10.0.0.{i}_capture_1.pcap" for i in (5, 6)]
    assert sensor_of(keys[0]) != sensor_of(keys[1])


@pytest.mark.parametrize(
    ("key", "time"),
    [
        ("packet-captures/i-0abc/2026-11-22-18-05.pcap", "2026-11-22T18:05:00"),
        ("2026/11/22/18/my-elb_eu-west-1a_10.0.0.5_capture_20261122T1801.pcap", "2026-11-22T18:01:00"),
        ("2026/11/22/18/my-elb_eu-west-1a_10.0.0.5_capture_x.pcap", "2026-11-22T18:00:00"),
        ("moloch/node/node-261122-00000001.pcap.zst", "2026-11-22T00:00:00"),
        ("tap1/year=2026/month=11/day=2/x.pcap", "2026-11-02T00:00:00"),
        ("tap/2026-11-22/a.pcap", "2026-11-22T00:00:00"),
        ("tap/20261122180501.pcap", "2026-11-22T18:05:01"),
        ("tap/a.pcap", None),
        ("tap/2026-19-22-18-05.pcap", None),
        ("tap/99999999999999.pcap", None),
    ],
)
def test_a_key_says_when_its_capture_begins(key, time):
    said = time_of(key)
    assert (said and rfc3339(said)[:19]) == time


@given(st.text(max_size=60))
def test_no_key_is_an_error(key):
    sensor_of(key)
    time_of(key)
