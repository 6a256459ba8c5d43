"""A deployed store that is empty, has gaps, lost items, or is none at all."""

import gzip
import json
import random

import pytest
from tests.cli.deployed import NOON, SECOND, SINCE, captured, conversation, deployed, flows_of, run

from backscatter.demo.wire import ether, pcap, tcp


@pytest.fixture
def store(tmp_path):
    with deployed(tmp_path) as store:
        yield store


def test_what_is_missing_from_the_store_is_said_and_is_no_absence(store):
    store.upload("tap/1.pcap", captured(NOON, ["10.0.1.7"]))
    store.drop("flows#")
    done = run("flows", "--stack", "ours", "--since", SINCE, "--host", "10.0.1.7", "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "s3://captures/tap/1.pcap: 1 items are missing from the store" in done.stderr


def test_captures_and_a_stack_exclude_each_other_and_one_is_needed(store):
    assert run("flows").exit_code == 2
    assert "exclude each other" in run("flows", "a.pcap", "--stack", "ours").stderr


def test_a_stack_that_is_not_there_or_not_ours_is_a_line_and_no_traceback(store):
    done = run("flows", "--stack", "nobody")
    assert done.exit_code == 2
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr
    assert "none of Backscatter's" in run("flows", "--stack", "other").stderr


def test_no_region_is_told_with_what_to_do(monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    done = run("flows", "--stack", "ours")
    assert done.exit_code == 2
    assert "AWS_DEFAULT_REGION" in done.stderr


def test_a_timeline_shows_where_nobody_looked(store):
    for minute in (0, 1, 4):
        store.upload(f"tap/{minute}.pcap", captured(NOON + minute * 60 * SECOND, [f"10.0.0.{i}" for i in range(1, 61)]))
    (line,) = map(
        json.loads, run("captures", "--stack", "ours", "--since", SINCE, "--timeline", "--json").stdout.splitlines()
    )
    assert (line["sensor"], line["captures"], len(line["spans"])) == ("tap", 3, 2)
    ((begin, end),) = line["gaps"]
    assert (begin[:19], end[:19]) == ("2025-11-22T12:01:59", "2025-11-22T12:04:00")
    drawn = run("captures", "--stack", "ours", "--since", SINCE, "--timeline").stdout
    assert "gap 2025-11-22 12:01:59" in drawn
    bar = next(text for text in drawn.splitlines() if "█" in text)
    assert bar.strip()[0] == bar.strip()[-1] == "█"
    assert "·" * 20 in bar


def test_a_capture_with_a_wild_clock_is_listed_and_covers_nothing(store):
    store.upload(
        "tap/0.pcap", pcap([*conversation(NOON, "10.0.0.1"), *conversation(NOON + 90 * 3600 * SECOND, "10.0.0.2")])
    )
    listed = run("captures", "--stack", "ours", "--since", SINCE)
    assert "clock implausible" in listed.stdout
    assert "nothing was covered" in run("captures", "--stack", "ours", "--since", SINCE, "--timeline").stdout


def test_a_heavy_host_is_found_whole(store):
    generator = random.Random(7)
    hosts = [
        f"10.{generator.randrange(256)}.{generator.randrange(256)}.{generator.randrange(1, 255)}" for _ in range(5000)
    ]
    store.upload(
        "tap/0.pcap", pcap([r for i, h in enumerate(hosts) for r in conversation(NOON + i * 10**6, h, answered=False)])
    )
    stored = flows_of("--stack", "ours", "--since", SINCE, "--host", "192.0.2.1")
    assert stored == flows_of(*store.files)
    assert stored == flows_of("--stack", "ours", "--since", SINCE)


def test_packets_of_a_compressed_capture_are_read_through_and_that_is_said(store):
    store.upload("tap/0.pcap.gz", gzip.compress(captured(NOON, ["10.0.0.1", "10.0.0.2"])))
    done = run("packets", "--stack", "ours", "--since", SINCE, "--host", "10.0.0.2")
    assert done.exit_code == 0
    assert "is compressed (gzip) and has to be read through" in done.stderr
    assert done.stdout == run("packets", *store.files, "--host", "10.0.0.2").stdout


def test_long_flows_have_more_packets_than_the_store_knows_the_places_of(store):
    records = [
        (NOON + i * SECOND, ether(tcp("10.0.0.1", 4000, "192.0.2.1", 443, "A", seq=i * 10, ack=1, payload=b"x" * 10)))
        for i in range(9)
    ]
    store.upload("tap/0.pcap", pcap(records))
    few = run("packets", "--stack", "ours", "--since", SINCE)
    assert len(few.stdout.splitlines()) == 4
    assert "5 more packets of these flows" in few.stderr
    assert run("packets", "--stack", "ours", "--since", SINCE, "--whole").stdout == run("packets", *store.files).stdout


def test_packets_of_a_capture_that_was_deleted_are_a_problem_and_not_an_absence(store):
    store.upload("tap/0.pcap", captured(NOON, ["10.0.0.1"]))
    store.stack.s3.delete_object(Bucket="captures", Key="tap/0.pcap")
    for more in ([], ["--whole"]):
        done = run("packets", "--stack", "ours", "--since", SINCE, *more)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "s3://captures/tap/0.pcap is not there any more" in done.stderr


def test_a_conversation_over_a_rotation_is_one_flow_as_in_the_files(store):
    records = conversation(NOON, "10.0.0.1")
    for i in range(15):
        ours = tcp("10.0.0.1", 40000, "192.0.2.1", 443, "A", seq=101 + i, ack=501, payload=b"x")
        records.append((NOON + i * 20 * SECOND + 9000, ether(ours)))
    for number in range(3):
        store.upload(f"tap/{number}.pcap", pcap(records[number * 6 : (number + 1) * 6]))
    stored = flows_of("--stack", "ours", "--since", SINCE)
    assert stored == flows_of(*store.files)
    assert len(stored) == 1
    assert stored[0]["src_packets"] > 8


def test_what_was_mirrored_twice_is_two_views_of_one_conversation(store):
    for tap in ("a", "b"):
        store.upload(f"{tap}/0.pcap", captured(NOON, ["10.0.0.1"]))
    one, other = flows_of("--stack", "ours", "--since", SINCE)
    assert (one.pop("sensor"), other.pop("sensor")) == ("a", "b")
    assert one == other


def test_a_gap_in_the_window_is_said(store):
    for minute in (0, 4):
        store.upload(f"tap/{minute}.pcap", captured(NOON + minute * 60 * SECOND, [f"10.0.0.{i}" for i in range(1, 60)]))
    done = run("flows", "--stack", "ours", "--since", SINCE, "--host", "10.0.0.1")
    assert "tap: 1 gaps in the window, the longest from 2025-11-22T12:00:58" in done.stderr
