"""Captures that lie in S3 already: what is taken in, what is left out, and what it would cost."""

import contextlib
import json
from pathlib import Path

import pytest
from tests.cli.deployed import NOON, SECOND, captured, deployed, run

from backscatter.cloud import backfill
from backscatter.cloud.events import ObjectCreated, read_message
from backscatter.cloud.ingest import ingest
from backscatter.cloud.objects import ObjectName
from backscatter.demo.wire import pcap
from backscatter.errors import BackscatterError
from backscatter.store.prices import MEASURED, SMALLEST_UNITS, estimate


class Functions:
    """The ingest function, which works whenever the command sleeps. `most` is how many messages it found at once."""

    def __init__(self, store):
        self.store, self.most, self.seen, self.sleeps = store, 0, [], 0
        self.stopped_after = None

    def __call__(self, _seconds):
        self.sleeps += 1
        queue = self.store.stack.environment["INGEST_QUEUE_URL"]
        sqs, found = self.store.stack.sqs, []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            found += messages
            for message in messages:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        found = [one for one in found if "Capture Listed" not in one["Body"]]
        self.most = max(self.most, len(found))
        for one in found:
            (event,) = read_message(one["Body"])
            assert isinstance(event, ObjectCreated)
            self.seen.append(event.name.key)
            with contextlib.suppress(BackscatterError):  # the dead-letter queue has it
                ingest(self.store.functions, event.name)
            if self.stopped_after is not None and len(self.seen) >= self.stopped_after:
                raise KeyboardInterrupt
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:  # the news of what was listed, which this queue stands in for
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


@pytest.fixture
def store(tmp_path, monkeypatch):
    with deployed(tmp_path) as store:
        store.functions_at_work = Functions(store)
        monkeypatch.setattr("backscatter.cli.ingest.time.sleep", store.functions_at_work)
        yield store


@pytest.fixture
def seven(store):
    """Seven captures of which nobody was told."""
    for minute in range(7):
        key = f"packet-captures/i-0a/2025-11-22-12-{minute:02d}.pcap"
        store.upload(key, captured(NOON + minute * 60 * SECOND, [f"10.0.0.{minute + 1}"]), ingested=False)
    return store


def taken_in(*arguments):
    done = run("ingest", "s3://captures/packet-captures/", "--stack", "ours", "--json", *arguments)
    assert done.stdout, (done.stderr, done.exception)
    return json.loads(done.stdout), done


def listed():
    done = run("captures", "--stack", "ours", "--since", "2025-11-22T12:00:00Z", "--json")
    return [json.loads(line)["capture"] for line in done.stdout.splitlines()]


def test_captures_are_taken_in_where_they_lie_the_oldest_first_and_not_too_many_at_a_time(seven):
    facts, done = taken_in("--concurrency", 3)
    assert (done.exit_code, facts["ingested"], facts["not_listed"], facts["listed_before"]) == (0, 7, 0, 0)
    assert seven.functions_at_work.seen == sorted(seven.functions_at_work.seen)
    assert seven.functions_at_work.most == 3
    assert len(listed()) == 7


def test_a_run_that_was_stopped_is_gone_on_with(seven):
    seven.functions_at_work.stopped_after = 4
    assert run("ingest", "s3://captures/packet-captures/", "--stack", "ours").exit_code == 130
    seven.functions_at_work.stopped_after = None
    facts, _ = taken_in()
    assert facts["listed_before"] >= 4
    assert facts["listed_before"] + facts["ingested"] == 7
    assert len(listed()) == 7


def test_a_dry_run_says_what_it_would_cost_and_does_nothing(seven):
    facts, done = taken_in("--dry-run")
    assert done.exit_code == 0
    assert (facts["objects"], facts["listed_before"], facts["gets"]) == (7, 0, 7)
    assert facts["bytes"] == sum(Path(path).stat().st_size for path in seven.files)
    assert facts["write_units"] == [7 * SMALLEST_UNITS] * 2
    assert 0 < facts["dollars"][0] <= facts["dollars"][1] < 0.01
    assert seven.functions_at_work.seen == []
    assert listed() == []


def test_times_are_those_of_the_keys(seven):
    facts, done = taken_in("--since", "2025-11-22T12:02:00Z", "--until", "2025-11-22T12:04:30Z")
    assert facts["ingested"] == 3
    assert "4 objects are left out: other times by their names" in done.stderr


def test_what_is_no_capture_is_named_and_the_wait_for_it_ends(seven):
    seven.upload("packet-captures/i-0a/readme.pcap", b"no capture at all", ingested=False)
    seven.upload("packet-captures/i-0a/empty.pcap", pcap([]), ingested=False)
    facts, done = taken_in()
    assert (done.exit_code, facts["ingested"], facts["not_listed"]) == (1, 7, 2)
    assert "s3://captures/packet-captures/i-0a/readme.pcap: was not listed" in done.stderr


def test_alert_logs_folders_and_archived_objects_are_left_out(store):
    put = store.stack.s3.put_object
    put(Bucket="captures", Key="alerts/eve.json", Body=b"{}")
    put(Bucket="captures", Key="tap/", Body=b"")
    put(Bucket="captures", Key="tap/old.pcap", Body=b"x", StorageClass="GLACIER")
    done = run("ingest", "s3://captures/", "--stack", "ours", "--dry-run", "--json")
    facts = json.loads(done.stdout)
    assert facts["objects"] == 0
    assert facts["left_out"] == {"alert logs": 1, "empty": 1, "archived: restore them first": 1}


def test_a_bucket_that_keeps_versions_is_listed_by_the_versions_that_events_name(store):
    s3 = store.stack.s3
    s3.put_bucket_versioning(Bucket="captures", VersioningConfiguration={"Status": "Enabled"})
    for host in ("10.0.0.1", "10.0.0.2"):
        answer = s3.put_object(Bucket="captures", Key="tap/a.pcap", Body=captured(NOON, [host]))
    ingest(store.functions, ObjectName("captures", "tap/a.pcap", answer["VersionId"], answer["ETag"].strip('"')))
    facts = json.loads(run("ingest", "s3://captures/tap", "--stack", "ours", "--dry-run", "--json").stdout)
    assert (facts["objects"], facts["listed_before"]) == (0, 1)


def test_another_bucket_needs_the_stacks_leave(store):
    done = run("ingest", "s3://somebody-elses/", "--stack", "ours")
    assert done.exit_code == 2
    assert "ExistingBucket=somebody-elses" in done.stderr


@pytest.mark.parametrize("url", ["captures/x", "s3://", "s3://Not_A_Bucket/x", "https://x/y"])
def test_what_is_no_place_in_s3_is_a_usage_error(url):
    done = run("ingest", url, "--stack", "ours")
    assert done.exit_code == 2
    assert "is no s3://bucket/prefix" in done.stderr


def test_the_message_says_what_the_event_of_an_upload_says():
    for name in (ObjectName("b", "k %20+ü", "v1", "e"), ObjectName("b", "k", "", "e")):
        assert list(read_message(backfill.event(name))) == [ObjectCreated(name)]


def test_an_estimate_grows_with_bytes_and_holds_for_what_was_measured():
    for one in MEASURED.values():
        low, high = estimate(1, one.capture_bytes, 1).write_units
        assert low <= one.write_units <= high
    assert estimate(1000, 1000, 1000).write_units == (1000 * SMALLEST_UNITS,) * 2
    assert estimate(0, 0, 0).dollars[1] < 0.00001
