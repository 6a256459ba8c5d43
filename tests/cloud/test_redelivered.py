"""Many small captures and a large one, each event at random twice, in any order: the store holds what the files do."""

import io
import random

import pytest
from tests.cloud.memory import InMemory
from tests.cloud.test_large import Ingesting, T, by_start, conversations

from backscatter.cloud.stack import GROUP
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.window import Window
from backscatter.store.catalogue import listed

SECOND = 10**9


@pytest.fixture
def cloud(monkeypatch):
    return Ingesting(InMemory(RANGE_MEGABYTES="2", CAPTURE_MEGABYTES="100"), monkeypatch)


def large():
    """A capture of 20 MB: a thousand conversations of full packets, side by side."""
    rng, packets = random.Random(1), []
    filling = rng.randbytes(1 << 16)
    for i in range(14_000):
        us, port = f"10.1.{i % 1000 // 250}.{i % 250}", 2000 + i % 1000
        begin = rng.randrange(1 << 15)
        frame = tcp(
            us, port, "192.0.2.9", 443, "PA", seq=i // 1000 * 1400, ack=1, payload=filling[begin : begin + 1400]
        )
        packets.append((T + i * 10**6, ether(frame)))
    return pcap(packets)


def test_a_hundred_small_captures_and_a_large_one(cloud):
    chance = random.Random(7)
    bodies = {f"tap/{i}.pcap": pcap(conversations(6, seed=i)) for i in range(100)} | {"big/a.pcap": large()}
    assert len(bodies["big/a.pcap"]) > 20e6
    events = [cloud.upload(key, body) for key, body in bodies.items()]
    again = [event for event in events if chance.random() < 0.5]
    waiting = [*events, *again]
    chance.shuffle(waiting)
    while waiting:
        body = waiting.pop(chance.randrange(len(waiting)))
        assert cloud.handle(body)
        for message in cloud.cloud.messages("ingest"):
            waiting += [message] * chance.choice((1, 2))
    entries = listed(cloud.cloud.stack.items, GROUP, Window(T - 3600 * SECOND, T + 3600 * SECOND))
    assert sorted(entry.source.key for entry in entries) == sorted(bodies)
    for entry in entries:
        body = bodies[entry.source.key]
        expected = read_sensor("s", [Piece(entry.census.piece, lambda body=body: io.BytesIO(body))])
        assert by_start(cloud.flows_of(entry)) == by_start(expected.table)
    assert cloud.left() == []
    assert cloud.cloud.messages("dead") == []
