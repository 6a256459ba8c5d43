"""One suite for both implementations of the port."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws
from tests.store.aws import make_table

from backscatter.cloud.dynamo import DynamoItems
from backscatter.store.memory import MemoryItems


@pytest.fixture(params=["memory", "dynamo"])
def items(request, monkeypatch):
    if request.param == "memory":
        yield MemoryItems()
        return
    with mock_aws():
        yield DynamoItems(make_table(monkeypatch), "flows")


def item(pk: str, sk: str, **rest) -> dict[str, object]:
    return {"pk": pk, "sk": sk, **rest}


def test_every_kind_of_value_comes_back(items):
    values = {
        "text": "ünï",
        "empty": "",
        "number": 2**63 + 1,
        "minus": -5,
        "bytes": b"\x00\xff",
        "yes": True,
        "nothing": None,
        "list": [1, "two", b"3", [False]],
        "map": {"deep": {"er": 1}},
    }
    items.put_all([item("a", "b", **values)])
    assert items.get_all([("a", "b")]) == [item("a", "b", **values)]


def test_more_items_than_a_batch_holds_are_all_written_and_read(items):
    keys = [("p", f"{i:04d}") for i in range(257)]
    items.put_all(item(*key, n=int(key[1])) for key in keys)
    found = items.get_all([*keys, ("p", "none"), keys[0]])
    assert sorted(int(one["n"]) for one in found) == list(range(257))


def test_nothing_is_asked_for_nothing(items):
    items.put_all([])
    assert items.get_all([]) == []


def test_a_put_replaces_the_whole_item(items):
    items.put_all([item("a", "b", old=1)])
    items.put_all([item("a", "b", new=2)])
    assert items.get_all([("a", "b")]) == [item("a", "b", new=2)]


def test_of_two_items_with_one_key_the_later_stays(items):
    items.put_all([item("a", "b", n=1), item("a", "b", n=2)])
    assert items.get_all([("a", "b")])[0]["n"] == 2


def test_a_query_gives_a_partition_in_order_with_both_ends(items):
    items.put_all(item("a", sk) for sk in ("S#3", "L#1", "S#1", "S#2", "S#2~"))
    items.put_all([item("other", "S#2")])
    assert [one["sk"] for one in items.query("a")] == ["L#1", "S#1", "S#2", "S#2~", "S#3"]
    assert [one["sk"] for one in items.query("a", "S#1", "S#2")] == ["S#1", "S#2"]
    assert list(items.query("nobody")) == []


def test_a_query_of_more_than_a_page_gives_all(items):
    items.put_all(item("a", f"{i:03d}", data=bytes(300_000)) for i in range(8))
    assert len(list(items.query("a"))) == 8


def test_put_if_absent_writes_once(items):
    assert items.put_if_absent(item("a", "b", n=1))
    assert not items.put_if_absent(item("a", "b", n=2))
    assert items.get_all([("a", "b")])[0]["n"] == 1


def test_replace_if_writes_only_over_the_number_that_was_read(items):
    assert not items.replace_if(item("a", "b", lock=1), "lock", 0)
    items.put_all([item("a", "b", lock=1)])
    assert items.replace_if(item("a", "b", lock=2), "lock", 1)
    assert not items.replace_if(item("a", "b", lock=3), "lock", 1)
    assert items.get_all([("a", "b")]) == [item("a", "b", lock=2)]


def test_a_deleted_item_is_gone_and_deleting_it_again_is_nothing(items):
    items.put_all([item("a", "b"), item("a", "c")])
    items.delete("a", "b")
    items.delete("a", "b")
    assert [one["sk"] for one in items.query("a")] == ["c"]


def test_what_was_read_does_not_change_what_is_stored(items):
    items.put_all([item("a", "b", list=[1])])
    items.get_all([("a", "b")])[0]["list"].append(2)
    assert items.get_all([("a", "b")])[0]["list"] == [1]


def test_floats_are_refused():
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        with pytest.raises(TypeError, match="holds no float"):
            DynamoItems(client, "flows").put_all([item("a", "b", severity=5.0)])


def test_the_keys_of_a_partition_are_given_without_its_items(items):
    items.put_all([{"pk": "p", "sk": f"{i:03d}", "data": b"x" * 10} for i in range(30)])
    items.put_all([{"pk": "q", "sk": "000"}])
    assert list(items.keys("p", "002", "004")) == ["002", "003", "004"]
    assert len(list(items.keys("p"))) == 30
