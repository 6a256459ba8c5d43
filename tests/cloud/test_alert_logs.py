"""Findings as they come in the cloud: with addresses that they pair themselves, in logs of other formats."""

import pytest
from tests.cloud.aws import BUCKET, deployed

from backscatter.demo import case2007

LINE = "03/20-18:04:19.731429  [**] [1:2000:3] Known Bot C&C [**] [Priority: 1] "


@pytest.fixture(scope="module")
def capture():
    return case2007.capture()


@pytest.fixture
def cloud(monkeypatch):
    with deployed(monkeypatch) as cloud:
        yield cloud


def told(cloud):
    return [outcome.verdict for outcome in cloud.outcomes if outcome.told]


def uploaded(cloud, key, text):
    name = cloud.upload(key, text.encode())
    event = {"bucket": {"name": BUCKET}, "object": {"key": name.key, "etag": name.etag}}
    cloud.correlate({"source": "aws.s3", "detail-type": "Object Created", "detail": event})


def test_the_public_address_that_a_finding_pairs_itself_is_found_under_the_private_one(cloud, capture):
    about = case2007.guardduty_finding()
    interface = {"privateIpAddress": case2007.OURS, "publicIp": "203.0.113.7"}
    about["resource"] = {"instanceDetails": {"networkInterfaces": [interface]}}
    about["service"]["action"]["networkConnectionAction"]["localIpDetails"] = {"ipAddressV4": "203.0.113.7"}
    cloud.report(about)
    assert told(cloud) == []
    cloud.ingest("s/a.pcap", capture)  # holds the private address only: that it wakes the finding is due to the pair
    cloud.wake()
    assert told(cloud) == ["backscatter"]


def test_a_log_without_years_is_placed_by_the_date_in_its_key(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    whole = f"{LINE}{{TCP}} {case2007.OURS}:1024 -> {case2007.VICTIM}:6667"
    uploaded(cloud, "alerts/2007/03/20/alert.fast", f"{whole}\n{LINE}torn\n{LINE}torn\n")
    assert told(cloud) == ["backscatter"]
    assert [trouble.errors for trouble in cloud.troubles] == [1, 1]
    assert "and 1 more like it: line 3" in cloud.troubles[1].text
