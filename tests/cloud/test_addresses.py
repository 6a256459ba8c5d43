"""Elastic IPs and private addresses: EC2 is asked once for a crowd of alerts, and never guesses."""

import json

import boto3
import pytest
from botocore.stub import Stubber
from tests.cloud.aws import deployed

from backscatter.cloud.addresses import FRESH, Addresses
from backscatter.demo import case2007
from backscatter.finding.model import End, Finding, Tuple

PUBLIC, PRIVATE, REMOTE = "203.0.113.7", "10.0.0.5", "198.51.100.9"
NOW = case2007.END


def finding(ip=PUBLIC, **how):
    return Finding(
        "id", "suricata", "1", "bot", 1, NOW, NOW, tuples=(Tuple("tcp", End(ip, 1024), End(REMOTE, 443)),), **how
    )


def interface(number, *pairs):
    addresses = [
        {"PrivateIpAddress": private, **({"Association": {"PublicIp": public}} if public else {})}
        for private, public in pairs
    ]
    return {"NetworkInterfaceId": f"eni-{number}", "PrivateIpAddresses": addresses}


class Stubbed:
    """An EC2 client with answers laid ready; `asked` answers are used up at the end."""

    def __init__(self, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        self.client = boto3.client("ec2", region_name="eu-west-1")
        self.stubber = Stubber(self.client)
        self.stubber.activate()
        self.addresses = Addresses(lambda: self.client)

    def will_say(self, by_private, by_public, asked):
        for name, found in (("private-ip-address", by_private), ("association.public-ip", by_public)):
            expected = {"Filters": [{"Name": f"addresses.{name}", "Values": asked}]}
            self.stubber.add_response("describe_network_interfaces", {"NetworkInterfaces": found}, expected)


@pytest.fixture
def ec2(monkeypatch):
    return Stubbed(monkeypatch)


@pytest.mark.parametrize("named", [PUBLIC, PRIVATE])
def test_either_address_finds_the_other_and_is_asked_for_once(ec2, named):
    one = interface(1, (PRIVATE, PUBLIC), ("10.0.0.6", None))
    ec2.will_say([one] if named == PRIVATE else [], [one] if named == PUBLIC else [], [named, REMOTE])
    for later in (0, FRESH):
        assert ec2.addresses.named(finding(named), NOW + later).aliases == ((PUBLIC, PRIVATE),)
    ec2.stubber.assert_no_pending_responses()


def test_answers_age(ec2):
    ec2.will_say([], [interface(1, (PRIVATE, PUBLIC))], [PUBLIC, REMOTE])
    ec2.will_say([], [interface(2, ("10.0.0.77", PUBLIC))], [PUBLIC, REMOTE])
    assert ec2.addresses.named(finding(), NOW).aliases == ((PUBLIC, PRIVATE),)
    assert ec2.addresses.named(finding(), NOW + FRESH + 1).aliases == ((PUBLIC, "10.0.0.77"),)


def test_only_the_address_that_was_asked_for_is_paired(ec2):
    one = interface(1, (PRIVATE, PUBLIC), ("10.0.0.6", "203.0.113.8"))
    other = interface(2, ("10.0.0.9", "203.0.113.9"))  # what an emulator that knows no filters gives too
    ec2.will_say([one, other], [one, other], [PUBLIC, REMOTE])
    assert ec2.addresses.named(finding(), NOW).aliases == ((PUBLIC, PRIVATE),)


def test_a_private_address_of_several_vpcs_names_none_of_them(ec2):
    several = [interface(1, (PRIVATE, PUBLIC)), interface(2, (PRIVATE, "203.0.113.8"))]
    ec2.will_say(several, [], [PRIVATE, REMOTE])
    assert ec2.addresses.named(finding(PRIVATE), NOW).aliases == ()


def test_findings_that_bring_their_aliases_and_ipv6_ask_for_nothing(ec2):
    brought = finding(aliases=((PUBLIC, "10.1.1.1"),))
    assert ec2.addresses.named(brought, NOW) == brought
    six = Finding(
        "id", "zeek", "1", "bot", 1, NOW, NOW, tuples=(Tuple("tcp", End("fd00::5", 1), End("2001:db8::9", 2)),)
    )
    assert ec2.addresses.named(six, NOW) == six


def test_where_ec2_cannot_be_asked_the_finding_says_so_and_nobody_asks_again_for_a_while(ec2):
    ec2.stubber.add_client_error("describe_network_interfaces", "UnauthorizedOperation", "you are not allowed")
    for _ in range(3):
        told = ec2.addresses.named(finding(), NOW)
        assert told.aliases == ()
        assert "translated addresses could not be looked up" in told.notes[0]
        assert "UnauthorizedOperation" in told.notes[0]
    ec2.will_say([], [interface(1, (PRIVATE, PUBLIC))], [PUBLIC, REMOTE])
    assert ec2.addresses.named(finding(), NOW + FRESH + 1).aliases == ((PUBLIC, PRIVATE),)


def test_pages_are_read(ec2):
    first = {"NetworkInterfaces": [interface(1, (PRIVATE, PUBLIC))], "NextToken": "more"}
    ec2.stubber.add_response("describe_network_interfaces", first)
    ec2.stubber.add_response("describe_network_interfaces", {"NetworkInterfaces": [interface(2, (PRIVATE, None))]})
    ec2.stubber.add_response("describe_network_interfaces", {"NetworkInterfaces": []})
    assert ec2.addresses.named(finding(PRIVATE), NOW).aliases == ()


def test_an_alert_about_an_elastic_ip_is_judged_by_captures_of_the_private_address(monkeypatch, ec2):
    ec2.will_say([], [interface(1, (case2007.OURS, PUBLIC))], [PUBLIC, case2007.VICTIM])
    with deployed(monkeypatch, HOME_NETWORKS=f"{PUBLIC}/32") as cloud:
        cloud.stack.addresses = ec2.addresses
        cloud.ingest("s/a.pcap", case2007.capture())
        cloud.messages("correlate")
        name = cloud.upload("alerts/sguil.txt", case2007.sguil_alert().replace(case2007.OURS, PUBLIC).encode())
        detail = {"bucket": {"name": name.bucket}, "object": {"key": name.key, "etag": name.etag}}
        cloud.correlate(json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}))
        assert [outcome.verdict for outcome in cloud.outcomes] == ["backscatter"]
