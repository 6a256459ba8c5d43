from __future__ import annotations

import random
from threading import Event

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from moto import mock_aws
from tests.store.aws import make_table
from tests.store.tables import KEY, flows, host
from tests.store.test_scene import ALWAYS, put

from backscatter.cloud import dynamo
from backscatter.cloud.dynamo import DynamoItems
from backscatter.errors import StoreError
from backscatter.store.cost import item_size
from backscatter.store.memory import MemoryItems
from backscatter.store.scene import StoredScene

PUT = {"PutRequest": {"Item": {"pk": {"S": "a"}, "sk": {"S": "1"}}}}


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return boto3.client("dynamodb", region_name="eu-west-1")


def test_items_that_come_back_unprocessed_are_written_after_a_pause(client):
    pauses: list[float] = []
    with Stubber(client) as stub:
        stub.add_response("batch_write_item", {"UnprocessedItems": {"flows": [PUT]}}, {"RequestItems": ANY})
        stub.add_response(
            "batch_write_item", {"UnprocessedItems": {"flows": [PUT]}}, {"RequestItems": {"flows": [PUT]}}
        )
        stub.add_response("batch_write_item", {"UnprocessedItems": {}}, {"RequestItems": {"flows": [PUT]}})
        DynamoItems(client, "flows", sleep=pauses.append).put_all([{"pk": "a", "sk": "1"}, {"pk": "a", "sk": "2"}])
        stub.assert_no_pending_responses()
    assert len(pauses) == 2
    assert all(0 <= pause <= dynamo.FIRST_PAUSE * 2**i for i, pause in enumerate(pauses))


def test_a_table_that_takes_nothing_is_an_error_and_no_silent_loss(client):
    pauses: list[float] = []
    with Stubber(client) as stub:
        for _ in range(dynamo.ATTEMPTS):
            stub.add_response("batch_write_item", {"UnprocessedItems": {"flows": [PUT]}})
        with pytest.raises(StoreError, match="did not write 1 items"):
            DynamoItems(client, "flows", sleep=pauses.append).put_all([{"pk": "a", "sk": "1"}])
    assert max(pauses) <= dynamo.LONGEST_PAUSE


def test_keys_that_come_back_unprocessed_are_read_after_a_pause(client):
    one, two = ({"pk": {"S": "a"}, "sk": {"S": sk}} for sk in "12")
    with Stubber(client) as stub:
        stub.add_response(
            "batch_get_item",
            {"Responses": {"flows": [one]}, "UnprocessedKeys": {"flows": {"Keys": [two], "ConsistentRead": True}}},
        )
        stub.add_response(
            "batch_get_item",
            {"Responses": {"flows": [two]}, "UnprocessedKeys": {}},
            {"RequestItems": {"flows": {"Keys": [two], "ConsistentRead": True}}},
        )
        found = DynamoItems(client, "flows", sleep=lambda _: None).get_all([("a", "1"), ("a", "2")])
    assert [item["sk"] for item in found] == ["1", "2"]


def test_throttling_is_waited_out_and_a_missing_table_is_not(client):
    pauses: list[float] = []
    with Stubber(client) as stub:
        stub.add_client_error("batch_write_item", "ProvisionedThroughputExceededException")
        stub.add_response("batch_write_item", {"UnprocessedItems": {}})
        DynamoItems(client, "flows", sleep=pauses.append).put_all([{"pk": "a", "sk": "1"}])
        stub.add_client_error("delete_item", "ResourceNotFoundException")
        with pytest.raises(ClientError, match="ResourceNotFound"):
            DynamoItems(client, "flows", sleep=pauses.append).delete("a", "1")
    assert len(pauses) == 1


def test_batches_have_at_most_25_items(client):
    sizes: list[int] = []
    with Stubber(client) as stub:
        client.meta.events.register(
            "provide-client-params.dynamodb.BatchWriteItem",
            lambda params, **_: sizes.append(len(params["RequestItems"]["flows"])),
        )
        for _ in range(3):
            stub.add_response("batch_write_item", {"UnprocessedItems": {}})
        DynamoItems(client, "flows").put_all({"pk": "a", "sk": str(i)} for i in range(60))
    assert sorted(sizes) == [10, 25, 25]


def test_the_next_items_are_worked_out_while_the_ones_before_are_written(client):
    """Each write waits until four batches were made: one writer that packs and sends in turn would never end."""
    made, enough = [], Event()

    def items():
        for i in range(100):
            made.append(i)
            if len(made) == 100:
                enough.set()
            yield {"pk": "a", "sk": str(i)}

    with Stubber(client) as stub:
        client.meta.events.register("provide-client-params.dynamodb.BatchWriteItem", lambda **_: waited(enough))
        for _ in range(4):
            stub.add_response("batch_write_item", {"UnprocessedItems": {}})
        DynamoItems(client, "flows", sleep=lambda _: None).put_all(items())
        stub.assert_no_pending_responses()


def waited(event):
    assert event.wait(10)


def test_what_one_writer_cannot_write_ends_the_others(client):
    written = []
    with Stubber(client) as stub:
        client.meta.events.register(
            "provide-client-params.dynamodb.BatchWriteItem",
            lambda params, **_: written.append(len(params["RequestItems"]["flows"])),
        )
        for _ in range(100):
            stub.add_client_error("batch_write_item", "ResourceNotFoundException")
        with pytest.raises(ClientError, match="ResourceNotFound"):
            DynamoItems(client, "flows").put_all({"pk": "a", "sk": str(i)} for i in range(2500))
    assert len(written) < 12


@pytest.mark.parametrize("seed", range(5))
def test_no_partition_is_asked_for_more_than_it_gives_in_any_second(client, monkeypatch, seed):
    """Time stands still but for the pauses: as fast as any writer could be, and by one that is held up now and then."""
    rng = random.Random(seed)
    now, sent = [0.0], []
    partitions = ["hot"] * 8 + [f"p{i}" for i in range(20)]
    items = [
        {"pk": rng.choice(partitions), "sk": str(i), "data": bytes(rng.randrange(1000, 130_000))} for i in range(600)
    ]
    table = DynamoItems(client, "flows", sleep=lambda pause: now.__setitem__(0, now[0] + pause), clock=lambda: now[0])

    def write(requests):
        for request in requests:
            item = request["PutRequest"]["Item"]
            units = -(-item_size({name: next(iter(value.values())) for name, value in item.items()}) // 1024)
            sent.append((now[0], item["pk"]["S"], units))
        if rng.random() < 0.1:
            now[0] += rng.random() * 3
        return []

    monkeypatch.setattr(dynamo, "WRITERS", 1)
    monkeypatch.setattr(table, "_write", write)
    table.put_all(items)
    assert len(sent) == len(items)
    for pk in {pk for _, pk, _ in sent}:
        mine = [(at, units) for at, name, units in sent if name == pk]
        for begin, _ in mine:
            assert sum(units for at, units in mine if begin <= at < begin + 1) <= 1000
    hot = sum(units for _, pk, units in sent if pk == "hot")
    assert now[0] < 3 * hot / dynamo.RATE + 200


def test_a_capture_ingested_twice_leaves_the_same_items_in_a_table_as_in_memory(monkeypatch):
    table = flows([(i % 40, 100 + i) for i in range(6000)], step=10**6)
    memory = MemoryItems()
    put(memory, table)
    with mock_aws():
        client = make_table(monkeypatch)
        items = DynamoItems(client, "flows")
        assert put(items, table).new
        assert not put(items, table).new
        stored = {
            (item["pk"]["S"], item["sk"]["S"]): dynamo._plain(item)
            for page in client.get_paginator("scan").paginate(TableName="flows")
            for item in page["Items"]
        }
        assert stored == memory.items
        found = StoredScene(items, KEY, "vpc").flows_of([host(7)], ALWAYS)
        assert len(found) == 150
