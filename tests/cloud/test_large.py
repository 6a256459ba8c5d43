"""Captures that no one function can take: shared out over the queue, and in the end as if one had read them."""

import gzip
import io
import json
import random
from types import SimpleNamespace

import pytest
from tests.capture.ng import interface, packet, section
from tests.capture.test_resync import PCAPNG
from tests.cloud.aws import BUCKET, WORK, Killed, deployed
from tests.cloud.memory import InMemory
from tests.cloud.test_handlers import batch, cold, uploaded

from backscatter.cloud.events import CAPTURE_LISTED
from backscatter.cloud.stack import GROUP
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.record import flow_records
from backscatter.flow.table import FlowTable
from backscatter.flow.window import Window
from backscatter.store import segments
from backscatter.store.captures import segment_key, volumes
from backscatter.store.catalogue import listed
from backscatter.store.scene import once

T = 1174413859731091000
SECOND = 10**9
EVER = Window(T - 3600 * SECOND, T + 48 * 3600 * SECOND)


def conversations(count=60, seed=5):
    """Packets of conversations that last, of every length: handshakes, data both ways, ends, and bare answers."""
    rng, packets = random.Random(seed), []
    for i in range(count):
        us, them, port = f"10.0.0.{i % 7 + 1}", f"192.0.2.{i + 1}", 1024 + i
        at, seq, ack = T + rng.randrange(10**10), rng.getrandbits(32), rng.getrandbits(32)
        steps = [(us, them, "S", 0), (them, us, "SA", 0), (us, them, "A", 0)] if i % 3 else [(them, us, "SA", 0)]
        steps += [(us, them, "PA", 200), (them, us, "PA", 900)] * rng.randrange(4) if i % 3 else [(us, them, "R", 0)]
        for src, dst, flags, size in steps:
            ports = (port, 80) if src == us else (80, port)
            frame = tcp(src, ports[0], dst, ports[1], flags, seq=seq, ack=ack, payload=rng.randbytes(size))
            packets.append((at, ether(frame)))
            at += rng.randrange(10**9)
            seq = (seq + size) % 2**32
    return sorted(packets)


CAPTURE = pcap(conversations())


@pytest.fixture
def cloud(monkeypatch):
    return Ingesting(InMemory(RANGE_MEGABYTES="0.008"), monkeypatch)


@pytest.fixture
def on_moto(monkeypatch):
    with deployed(monkeypatch, RANGE_MEGABYTES="0.02") as cloud:
        cloud.environment["QUEUE_URL"] = cloud.queues["ingest"]
        yield Ingesting(cloud, monkeypatch)


class Ingesting:
    """The ingest function and its queue: messages come as often and in whichever order `random` says."""

    def __init__(self, cloud, monkeypatch):
        self.cloud, self.outcomes = cloud, []
        for name, value in {**cloud.environment, "POWERTOOLS_METRICS_NAMESPACE": "Backscatter"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"test-large-{id(self)}")
        self.module = cold("ingest")
        self.module.stack = cloud.stack
        self.milliseconds = 100_000
        self.context = SimpleNamespace(
            get_remaining_time_in_millis=lambda: self.milliseconds,
            function_name="f",
            memory_limit_in_mb=2048,
            invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:f",
            aws_request_id="r",
        )

    def handle(self, body):
        """Whether the message is done with."""
        return not self.module.handler(batch(body), self.context)["batchItemFailures"]

    def work_off(self, *bodies, chance=None):
        """Handle messages and all that they lead to; those that fail or are killed come again."""
        waiting, handled = list(bodies), 0
        while waiting:
            body = waiting.pop(chance.randrange(len(waiting)) if chance else 0)
            try:
                done = self.handle(body)
            except Killed:
                done = False
            handled += 1
            assert handled < 500, "it does not come to an end"
            if not done or (chance and chance.random() < 0.4):
                waiting.append(body)
            waiting += self.cloud.messages("ingest")
        return handled

    def upload(self, key, body):
        return uploaded(self.cloud, key, body)

    def stored(self, key="s/a.pcap"):
        """The flows that are stored of a capture, and its entry."""
        (entry,) = [one for one in listed(self.cloud.stack.items, GROUP, EVER) if one.source.key == key]
        return self.flows_of(entry), entry

    def flows_of(self, entry):
        """The flows that are stored of an entry."""
        items, tables = self.cloud.stack.items, []
        for volume in volumes(items, entry):
            keys = [segment_key(volume.name, *place) for place in volume.shelves.items()]
            found = items.get_all(keys)
            assert len(found) == len(keys)
            tables += [segments.read(item["data"], entry.census.sensor, entry.census.piece) for item in found]
        return once(FlowTable.joined(tables))

    def holds(self, body, key="s/a.pcap"):
        """Hold what is stored of a capture equal to what one reader sees; its entry."""
        table, entry = self.stored(key)
        expected = read_sensor("s", [Piece(entry.census.piece, lambda: io.BytesIO(body))])
        assert by_start(table) == by_start(expected.table)
        assert entry.census == expected.censuses[0]
        assert entry.layout == expected.pieces[0].layout.to_json()
        assert entry.flows == len(expected.table)
        return entry

    def left(self):
        """What is in the work bucket, and keys of items of jobs."""
        objects = [key for bucket, key in self.cloud.s3.objects if bucket == WORK]
        return objects + [key for key in self.cloud.everything() if key[0].startswith("job#")]


def by_start(table):
    return sorted(json.dumps(record) for record in flow_records(table))


def several_interfaces():
    """A pcapng of which an interface is described late, and a second section begins in its middle."""
    frames = [(at, frame) for at, frame in conversations(40)]
    third = len(frames) // 3
    head = section() + interface(resolution=9)
    first = b"".join(packet(frame, at) for at, frame in frames[:third])
    second = b"".join(packet(frame, at, i % 2) for i, (at, frame) in enumerate(frames[third : 2 * third]))
    last = b"".join(packet(frame, at // 1000, order=">") for at, frame in frames[2 * third :])
    return head + first + interface(resolution=9) + second + section(">") + interface(order=">") + last


def damaged():
    body = bytearray(CAPTURE)
    body[len(body) // 2 : len(body) // 2 + 300] = b"\xff" * 280
    return bytes(body)


BODIES = {"pcap": CAPTURE, "pcapng": PCAPNG, "interfaces": several_interfaces(), "damaged": damaged()}


@pytest.mark.parametrize("kind", BODIES)
def test_a_large_capture_is_read_by_ranges_and_is_the_same_as_read_by_one(cloud, kind):
    body = BODIES[kind]
    handled = cloud.work_off(cloud.upload("s/a.pcap", body))
    assert handled > len(body) // 8000
    entry = cloud.holds(body)
    assert entry.parts >= 1
    woken = [json.loads(body) for body in cloud.cloud.messages("correlate")]
    assert {(one["detail-type"], one["detail"]["capture"]) for one in woken} == {(CAPTURE_LISTED, entry.capture)}
    assert cloud.left() == []


def test_the_same_by_the_clients_of_aws(on_moto):
    on_moto.work_off(on_moto.upload("s/a.pcap", CAPTURE))
    on_moto.holds(CAPTURE)
    assert "Contents" not in on_moto.cloud.s3.list_objects_v2(Bucket=WORK)


@pytest.mark.parametrize("seed", range(8))
def test_messages_may_come_again_and_in_any_order(cloud, seed):
    cloud.work_off(cloud.upload("s/a.pcap", CAPTURE), chance=random.Random(seed))
    cloud.holds(CAPTURE)
    assert cloud.left() == []


def test_the_parts_of_a_capture_are_as_many_as_it_takes(cloud, monkeypatch):
    monkeypatch.setattr("backscatter.cloud.large.PART_PACKETS", 40)
    cloud.work_off(cloud.upload("s/a.pcap", CAPTURE), chance=random.Random(1))
    assert cloud.holds(CAPTURE).parts > 3


def test_a_compressed_capture_is_read_on_where_time_ran_out(cloud):
    body = gzip.compress(CAPTURE, mtime=0)
    event = cloud.upload("s/a.pcap.gz", body)
    cloud.handle(event)
    (first,) = cloud.cloud.messages("ingest")
    looks = iter([100_000, *[20_000] * 1000])  # time enough to begin, none to go on
    cloud.context.get_remaining_time_in_millis = lambda: next(looks)
    assert cloud.handle(first)
    (second,) = cloud.cloud.messages("ingest")
    assert json.loads(second)["detail"]["index"] == 1
    cloud.context.get_remaining_time_in_millis = lambda: 100_000
    cloud.work_off(second, chance=random.Random(2))
    cloud.holds(body, "s/a.pcap.gz")


def test_a_compressed_capture_of_members_goes_on_at_a_member_and_not_at_the_beginning(cloud, monkeypatch):
    monkeypatch.setattr("backscatter.capture.expand.MEMBER_APART", 1000)
    body = b"".join(gzip.compress(CAPTURE[at : at + 3000], mtime=0) for at in range(0, len(CAPTURE), 3000))
    cloud.handle(cloud.upload("s/a.pcap.gz", body))
    (message,) = cloud.cloud.messages("ingest")
    asked = cloud.cloud.s3.asked
    while message:
        looks = iter([100_000, *[20_000] * 1000])
        cloud.context.get_remaining_time_in_millis = lambda looks=looks: next(looks)
        monkeypatch.setattr("backscatter.cloud.large.Job._skip", skip_whatever_the_time)
        assert cloud.handle(message)
        message, *more = cloud.cloud.messages("ingest") or [None]
        if message and "Part" in message:
            cloud.context.get_remaining_time_in_millis = lambda: 100_000
            cloud.work_off(message, *more)
            break
    assert sum(1 for bucket, _, wanted in asked if bucket == BUCKET and wanted) >= 3
    cloud.holds(body, "s/a.pcap.gz")


def skip_whatever_the_time(_, source, at):
    source.skip(at - source.position)


def test_a_compressed_capture_that_is_skipped_for_ever_is_given_up_with_the_reason(cloud):
    cloud.handle(cloud.upload("s/a.pcap.gz", gzip.compress(CAPTURE, mtime=0)))
    (message,) = cloud.cloud.messages("ingest")
    for _ in range(2):
        looks = iter([100_000, *[20_000] * 1000])
        cloud.context.get_remaining_time_in_millis = lambda looks=looks: next(looks)
        assert cloud.handle(message)
        message = next(iter(cloud.cloud.messages("ingest")), None)
    assert message is None
    (told,) = cloud.cloud.sqs.attributes
    assert told["reason"] == "too_slow"
    assert "members" in told["explanation"]


def test_a_capture_deleted_while_it_is_shared_out_is_gone_and_nothing_of_it_is_listed(cloud):
    cloud.handle(cloud.upload("s/a.pcap", CAPTURE))
    cloud.cloud.s3.delete_object(Bucket="captures", Key="s/a.pcap")
    assert cloud.work_off(*cloud.cloud.messages("ingest"))
    assert listed(cloud.cloud.stack.items, GROUP, EVER) == []
    assert cloud.cloud.messages("dead") == []


def test_a_capture_that_is_uploaded_again_while_it_is_shared_out_is_read_as_it_is_then(cloud):
    cloud.handle(cloud.upload("s/a.pcap", CAPTURE))
    again = pcap(conversations(50, seed=6))
    cloud.work_off(*cloud.cloud.messages("ingest"), cloud.upload("s/a.pcap", again), chance=random.Random(3))
    cloud.holds(again)


def test_what_is_larger_than_the_settings_allow_is_buried_before_it_is_shared_out(cloud):
    cloud.cloud.environment["CAPTURE_MEGABYTES"] = "0"
    assert cloud.work_off(cloud.upload("s/a.pcap", CAPTURE)) == 1
    assert len(cloud.cloud.messages("dead")) == 1
    assert cloud.left() == []


@pytest.mark.parametrize("kind", ["small", "large", "compressed"])
def test_a_function_killed_at_any_call_leaves_the_same_items_as_a_clean_run(cloud, kind):
    body = pcap(conversations(8))
    if kind == "compressed":
        body = gzip.compress(body, mtime=0)
    cloud.cloud.environment["RANGE_MEGABYTES"] = "4" if kind == "small" else "0.003"
    event = cloud.upload("s/a.pcap", body)
    cloud.work_off(event)
    clean = cloud.cloud.everything()
    for step in range(1000):
        cloud.cloud.items.items = {key: item for key, item in cloud.cloud.items.items.items() if key[0] == "deployment"}
        cloud.cloud.alive = step
        cloud.work_off(event)
        if cloud.cloud.alive is not None:  # nobody was killed: that was the last call
            break
        assert cloud.cloud.everything() == clean, step
        assert cloud.left() == []
    cloud.cloud.alive = None
    assert step > (4 if kind == "small" else 40)
    cloud.holds(body)
