"""Captures that lie in a bucket already: the state machine hands them to ingest, and the command line finds them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.endtoend.test_deployed import until

from backscatter.cloud.dynamo import DynamoItems
from backscatter.cloud.objects import ObjectName
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.flow.record import rfc3339
from backscatter.store.captures import all_listed
from backscatter.store.catalogue import CaptureObject

# One local cloud for all of them: they run in one worker.
pytestmark = pytest.mark.xdist_group("cloud")

SECOND = 10**9
START = 1_700_000_000 * SECOND
BUCKET = "long-there"


@pytest.fixture(scope="module")
def there(cloud):
    """Three captures in a bucket that no rule watches, and an object without bytes."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    sources = []
    for minute in range(3):
        at = START + minute * 60 * SECOND
        body = pcap([(at + i * SECOND, ether(tcp(f"10.0.0.{i + 1}", 4000, "192.0.2.1", 80, "S"))) for i in range(60)])
        etag = s3.put_object(Bucket=BUCKET, Key=f"tap/{minute} +ü.pcap", Body=body)["ETag"].strip('"')
        identity = ObjectName(BUCKET, "", etag=etag).identity
        sources.append(CaptureObject(BUCKET, f"tap/{minute} +ü.pcap", identity))
    s3.put_object(Bucket=BUCKET, Key="tap/empty.pcap", Body=b"")
    return sources


def command(cloud, stack, *arguments):
    given = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    client = cloud.client("s3")
    given |= {
        "AWS_ENDPOINT_URL": client.meta.endpoint_url,
        "AWS_DEFAULT_REGION": client.meta.region_name,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    line = [str(Path(sys.executable).with_name("backscatter")), *arguments, "--stack", stack.name, "--json"]
    return subprocess.run(line, env=given, capture_output=True, text=True, check=False)


def test_the_state_machine_takes_in_what_lies_in_a_bucket_and_the_commands_find_it(cloud, stack, there):
    items = DynamoItems(cloud.client("dynamodb"), stack["Table"])
    machines = cloud.client("stepfunctions")
    begun = machines.start_execution(
        stateMachineArn=stack["Backfill"], input=json.dumps({"bucket": BUCKET, "prefix": "tap/"})
    )

    def ended():
        told = machines.describe_execution(executionArn=begun["executionArn"])
        return told if told["status"] != "RUNNING" else None

    told = until(ended, "the execution ends")
    assert told["status"] == "SUCCEEDED", told
    until(lambda: len(all_listed(items, there)) == 3, "all three are listed")

    since, till = rfc3339(START), rfc3339(START + 600 * SECOND)
    done = command(cloud, stack, "flows", "--host", "10.0.0.7", "--since", since, "--until", till)
    assert done.returncode == 0, done.stderr
    (flow,) = map(json.loads, done.stdout.splitlines())  # its SYN again, once in each capture
    assert flow["src_packets"] == 3
    done = command(cloud, stack, "captures", "--timeline", "--since", since, "--until", till)
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["sensor"], line["captures"], line["gaps"]) == ("tap", 3, [])
    done = command(cloud, stack, "packets", "--host", "10.0.0.7", "--since", since, "--until", till)
    assert len(done.stdout.splitlines()) == 3, done.stderr
