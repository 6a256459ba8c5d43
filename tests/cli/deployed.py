"""A deployed stack on moto, and the captures in it as files besides."""

import contextlib
import json

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from moto import mock_aws

from backscatter.cli.main import cli
from backscatter.cloud import remote
from backscatter.cloud.ingest import ingest
from backscatter.cloud.objects import ObjectName
from backscatter.cloud.remote import open_stack
from backscatter.cloud.stack import Stack
from backscatter.demo.wire import ether, pcap, tcp

SECOND = 10**9
NOON = 1_763_812_800 * SECOND
SINCE = "2025-11-22T12:00:00Z"


def conversation(start, host, port=40000, *, server="192.0.2.1", answered=True):
    """A handshake, or a SYN alone."""
    records = [(start, ether(tcp(host, port, server, 443, "S", seq=100)))]
    if answered:
        records.append((start + 1000, ether(tcp(server, 443, host, port, "SA", seq=500, ack=101))))
        records.append((start + 2000, ether(tcp(host, port, server, 443, "A", seq=101, ack=501))))
    return records


def captured(start, hosts):
    """A capture of a minute: one conversation a second."""
    return pcap([record for i, host in enumerate(hosts) for record in conversation(start + i * SECOND, host)])


class Store:
    """A deployed stack, the captures in it, and the same captures as files."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        boto3.client("dynamodb").create_table(
            TableName="table",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        boto3.client("s3").create_bucket(Bucket="captures")
        queue = boto3.client("sqs").create_queue(QueueName="ingest")["QueueUrl"]
        stacks = {
            "ours": {
                "StackStatus": "CREATE_COMPLETE",
                "Outputs": [
                    {"OutputKey": key, "OutputValue": value}
                    for key, value in (("CaptureBucket", "captures"), ("Table", "table"), ("IngestQueue", queue))
                ],
                "Parameters": [
                    {"ParameterKey": "CaptureMegabytes", "ParameterValue": "64"},
                    {"ParameterKey": "FlowDays", "ParameterValue": "30"},
                ],
            },
            "other": {"StackStatus": "CREATE_COMPLETE"},
        }

        def described(name):
            if name not in stacks:
                error = {"Code": "ValidationError", "Message": f"Stack with id {name} does not exist"}
                raise ClientError({"Error": error}, "DescribeStacks")
            return stacks[name]

        monkeypatch.setattr(remote, "_described", described)
        self.stack = open_stack("ours")
        more = {"CORRELATE_QUEUE_URL": queue, "QUEUE_URL": queue, "RANGE_MEGABYTES": "64", "WORK_BUCKET": "captures"}
        self.functions = Stack({**self.stack.environment, **more})
        self.files = []

    def upload(self, key, body, *, ingested=True):
        answer = self.stack.s3.put_object(Bucket="captures", Key=key, Body=body)
        path = self.folder / key.replace("/", "-")
        path.write_bytes(body)
        self.files.append(str(path))
        if ingested:
            ingest(self.functions, ObjectName("captures", key, etag=answer["ETag"].strip('"')))

    def drop(self, prefix):
        """Lose the items whose partition begins so."""
        client = boto3.client("dynamodb")
        table = self.stack.environment["TABLE_NAME"]
        for item in client.scan(TableName=table)["Items"]:
            if item["pk"]["S"].startswith(prefix):
                client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})


@contextlib.contextmanager
def deployed(folder):
    """A stack of the name `ours`; `other` is somebody else's."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        with mock_aws():
            yield Store(folder, monkeypatch)


def run(*arguments):
    """What a command says; every day up to now would be asked for, so a window that is open ends with these captures."""
    if "--since" in arguments and "--until" not in arguments:
        arguments = (*arguments, "--until", "2025-11-26T12:00:00Z")
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def flows_of(*arguments):
    done = run("flows", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
