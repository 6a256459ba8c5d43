"""From an object to its flows, once, and no further than it can go."""

import json
import time
import zlib

import boto3
import pytest
from tests.cloud.aws import BUCKET, Killed, deployed

from backscatter.cloud.events import CAPTURE_LISTED, PATIENCE_TICK, our_event
from backscatter.cloud.ingest import ingest
from backscatter.cloud.objects import ObjectName
from backscatter.cloud.stack import GROUP, Stack, deployment_key
from backscatter.demo import case2007
from backscatter.errors import Gone, Hopeless
from backscatter.flow.window import Window
from backscatter.store.catalogue import listed
from backscatter.store.memory import MemoryItems

WINDOW = Window(case2007.START, case2007.END)


@pytest.fixture
def cloud(monkeypatch):
    with deployed(monkeypatch) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def small():
    return case2007.pcap(case2007.pairs())


def entries(cloud):
    return listed(cloud.stack.items, GROUP, WINDOW)


def everything(cloud):
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName="table")
    items = {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}
    items = {key: item for key, item in items.items() if key[0] != "intents"}  # one a try, which expires by itself
    for item in items.values():
        item.pop("expires_at", None)  # by the second in which it was written
    return items


def test_a_capture_is_listed_and_the_findings_that_wait_are_woken(cloud, small):
    done = cloud.ingest("packet-captures/i-07/2007-03-20-17-49.pcap", small)
    assert (done.outcome, done.packets, done.flows) == ("stored", 4, 2)
    (entry,) = entries(cloud)
    assert entry.census.piece == f"s3://{BUCKET}/packet-captures/i-07/2007-03-20-17-49.pcap"
    assert entry.census.sensor == "packet-captures/i-07"
    (woken,) = map(json.loads, cloud.messages("correlate"))
    assert (woken["detail-type"], woken["detail"]["capture"]) == (CAPTURE_LISTED, entry.capture)


def test_an_event_that_comes_again_writes_nothing_and_reads_nothing(cloud, small):
    name = cloud.upload("s/a.pcap", small)
    assert ingest(cloud.stack, name).outcome == "stored"
    before = everything(cloud)
    cloud.s3.delete_object(Bucket=BUCKET, Key="s/a.pcap")
    assert ingest(cloud.stack, name).outcome == "listed before"
    assert everything(cloud) == before


def test_another_content_under_the_same_key_is_another_capture_and_takes_its_place(cloud, small):
    cloud.ingest("s/a.pcap", small)
    time.sleep(1)  # S3 tells in whole seconds when an object was modified
    cloud.ingest("s/a.pcap", case2007.pcap(list(case2007.pairs())[:2]))
    (entry,) = entries(cloud)
    assert entry.census.packets == 2


def test_a_capture_cut_short_gives_every_whole_packet_before_the_cut(cloud, small):
    done = cloud.ingest("s/a.pcap", small[:-10])
    assert (done.outcome, done.packets) == ("stored", 3)
    assert done.damaged_bytes > 0


@pytest.mark.parametrize("body", [b"", b"%PDF-1.7 nothing of the kind", b"\x1f\x8b\x08 broken gzip"])
def test_what_is_no_capture_is_hopeless_and_told_as_what_it_seems_to_be(cloud, body):
    with pytest.raises(Hopeless, match=r"s3://captures/s/a\.pcap") as told:
        cloud.ingest("s/a.pcap", body)
    assert told.value.reason == "no_capture"
    assert entries(cloud) == []


def test_of_a_capture_that_expands_beyond_the_limit_what_came_before_is_kept_and_the_rest_is_told(cloud):
    body = case2007.pcap([*case2007.pairs(), *((case2007.END, bytes(60_000)) for _ in range(100))])
    packer = zlib.compressobj(wbits=31)
    with pytest.raises(Hopeless, match="limit expanded_bytes") as told:
        cloud.ingest("s/a.pcap.gz", packer.compress(body) + packer.flush())
    assert told.value.reason == "too_big"
    (entry,) = entries(cloud)
    assert entry.census.packets > 4
    assert entry.census.damaged_bytes > 0


@pytest.mark.parametrize(("key", "body"), [("s/", b""), ("s/quiet.pcap", case2007.pcap([]))])
def test_what_holds_no_packet_is_done_and_not_listed(cloud, key, body):
    assert cloud.ingest(key, body).outcome == "empty"
    assert cloud.messages("correlate") == []


def test_an_object_that_was_deleted_before_it_was_read_is_gone(cloud, small):
    name = cloud.upload("s/a.pcap", small)
    cloud.s3.delete_object(Bucket=BUCKET, Key="s/a.pcap")
    with pytest.raises(Gone):
        ingest(cloud.stack, name)


def test_an_event_that_names_no_content_is_hopeless(cloud):
    with pytest.raises(Hopeless, match="neither a version nor an etag"):
        ingest(cloud.stack, ObjectName(BUCKET, "s/a.pcap"))


def test_a_function_killed_at_any_call_leaves_the_same_items_as_a_clean_run(cloud, small):
    name = cloud.upload("s/a.pcap", small)
    ingest(cloud.stack, name)
    clean = everything(cloud)
    table = boto3.client("dynamodb")
    for step in range(100):
        for pk, sk in everything(cloud):
            if pk != "deployment":
                table.delete_item(TableName="table", Key={"pk": {"S": pk}, "sk": {"S": sk}})
        cloud.alive = step
        try:
            ingest(cloud.stack, name)
        except Killed:
            ingest(cloud.stack, name)
            assert everything(cloud) == clean, step
        else:
            break
    assert step > 4


def test_a_wake_that_was_lost_is_made_up_for_by_the_schedule(cloud):
    cloud.report(case2007.guardduty_finding())
    name = cloud.upload("s/a.pcap", case2007.capture())
    ingest(cloud.stack, name)
    assert cloud.messages("correlate")  # taken away: the function was killed before it could send this
    assert ingest(cloud.stack, name).outcome == "listed before"
    cloud.now += 6 * 60 * case2007.SECOND
    cloud.correlate(our_event(PATIENCE_TICK, {}))
    assert [(one.verdict, bool(one.told)) for one in cloud.outcomes] == [("undetermined", False), ("backscatter", True)]


def test_a_function_killed_before_it_could_wake_anybody_wakes_them_when_the_event_comes_again(cloud):
    cloud.report(case2007.guardduty_finding())
    cloud.now += 31 * 60 * case2007.SECOND
    cloud.correlate(our_event(PATIENCE_TICK, {}))  # told as undetermined: the schedule is done with it
    name = cloud.upload("s/a.pcap", case2007.capture())

    def killed(**_):
        raise Killed

    cloud.stack.sqs.meta.events.register("before-call.sqs.SendMessage", killed)
    with pytest.raises(Killed):
        ingest(cloud.stack, name)
    cloud.stack.sqs.meta.events.unregister("before-call.sqs.SendMessage", killed)
    assert ingest(cloud.stack, name).outcome == "listed before"
    cloud.wake()
    assert [one.verdict for one in cloud.outcomes if one.told] == ["undetermined", "backscatter"]


def test_the_key_of_a_deployment_is_made_once():
    items = MemoryItems()
    first = deployment_key(items)
    assert len(first) == 32
    assert deployment_key(items) == first
    assert deployment_key(MemoryItems()) != first


def test_networks_and_aliases_come_from_the_parameters_of_the_stack():
    settings = Stack(
        {"HOME_NETWORKS": "192.0.2.0/24, 2001:db8::/32", "ADDRESS_ALIASES": "198.51.100.7=10.0.0.5"}
    ).settings
    assert [str(network) for network in settings.home] == ["192.0.2.0/24", "2001:db8::/32"]
    assert settings.aliases == (("198.51.100.7", "10.0.0.5"),)
    assert len(Stack({"HOME_NETWORKS": "", "ADDRESS_ALIASES": ""}).settings.home) > 3
