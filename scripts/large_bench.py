"""Many small captures and a large one, each event at random twice: seconds, memory, and whether the flows are right.

    python scripts/large_bench.py --small 2000 --gigabytes 2

The functions' own code runs in this process, message after message, with a table, queues and buckets in memory. The
large capture is made as it is asked for, so it needs no room; objects of the work bucket lie in a temporary folder. The
flows are compared with those that reading the same bytes in one go gives, as `backscatter flows` does.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import io
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.cloud.memory import Body, InMemory, Objects  # noqa: E402
from tests.cloud.test_large import conversations  # noqa: E402

from backscatter.cloud.events import ObjectCreated, PartToStore, RangeToRead, object_created, read_message  # noqa: E402
from backscatter.cloud.ingest import ingest, ingest_part, ingest_range  # noqa: E402
from backscatter.cloud.objects import ObjectName  # noqa: E402
from backscatter.cloud.stack import GROUP  # noqa: E402
from backscatter.demo.wire import ether, pcap, tcp  # noqa: E402
from backscatter.flow.read import Piece, read_sensor  # noqa: E402
from backscatter.flow.record import flow_records  # noqa: E402
from backscatter.flow.table import FlowTable  # noqa: E402
from backscatter.flow.window import Window  # noqa: E402
from backscatter.store import segments  # noqa: E402
from backscatter.store.captures import segment_key, volumes  # noqa: E402
from backscatter.store.catalogue import listed  # noqa: E402
from backscatter.store.scene import once  # noqa: E402

if TYPE_CHECKING:
    from backscatter.flow.columns import FlowColumns
    from backscatter.store.catalogue import Entry

START = 1_174_413_859
RECORDS = 2048
LARGE = "big/a.pcap"


class Endless(io.RawIOBase):
    """A pcap of `size` bytes, made block by block: full packets of long conversations, and SYN+ACKs between."""

    def __init__(self, size: int, begin: int = 0, end: int | None = None) -> None:
        super().__init__()
        frames = [
            ether(tcp("10.0.0.1", 1, "192.0.2.1", 443, "PA", seq=1, ack=1, payload=bytes(range(256)) * 5))
            if i % 8
            else ether(tcp("192.0.2.1", 443, "10.0.0.1", 1, "SA", seq=1, ack=1))
            for i in range(RECORDS)
        ]
        body = pcap([(START * 10**9, frame) for frame in frames])
        self._head, self._block = body[:24], np.frombuffer(body[24:], np.uint8)
        lengths = np.array([16 + len(frame) for frame in frames])
        self._at = np.cumsum(lengths) - lengths
        self._answers = np.arange(RECORDS) % 8 == 0
        self._blocks = (size - 24) // len(self._block)
        self.size = 24 + self._blocks * len(self._block)
        self._position, self._end = begin, self.size if end is None else min(end, self.size)
        self._made: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        """True: it is for reading."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """Fill the buffer with the next bytes."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._some(min(len(view), self._end - self._position))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _some(self, most: int) -> bytes:
        if most <= 0:
            return b""
        if self._position < 24:
            return self._head[self._position :][:most]
        number, at = divmod(self._position - 24, len(self._block))
        if self._made[0] != number:
            self._made = number, self._numbered(number)
        return self._made[1][at : at + most]

    def _numbered(self, number: int) -> bytes:
        """A block with times, ports and sequence numbers of its own."""
        block = self._block.copy()
        index = number * RECORDS + np.arange(RECORDS)
        micros = index * 10
        client = (1024 + index % 50021).astype(">u2")
        here = self._at
        for offset, values in (
            (0, (START + micros // 10**6).astype("<u4")),
            (4, (micros % 10**6).astype("<u4")),
            (16 + 14 + 20 + 4, (index // 50021 * 1400).astype(">u4")),
        ):
            self._put(block, here + offset, values)
        ports = np.where(self._answers, 2, 0)
        self._put(block, here + 16 + 14 + 20 + ports, client)
        return block.tobytes()

    @staticmethod
    def _put(block: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:  # type: ignore[type-arg]
        octets = values.view(np.uint8).reshape(len(values), values.itemsize)
        for i in range(values.itemsize):
            block[at + i] = octets[:, i]


class Disk(Objects):
    """The large capture is made when it is asked for, and what goes to the work bucket lies in files."""

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(lambda _: None)
        self._folder, self._large = folder, size

    def _file(self, key: str) -> Path:
        return self._folder / key.replace("/", "_")

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, str]:  # noqa: N803
        """A work object into a file, any other into memory."""
        if Bucket == "work":
            self._file(Key).write_bytes(Body)
            return {"ETag": "x"}
        return super().put_object(Bucket=Bucket, Key=Key, Body=Body)  # type: ignore[no-any-return]

    def delete_object(self, *, Bucket: str, Key: str) -> None:  # noqa: N803
        """A work object goes."""
        if Bucket == "work":
            self._file(Key).unlink(missing_ok=True)

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> dict[str, object]:  # noqa: N803
        """A range of an object."""
        if Bucket == "captures" and Key != LARGE:
            return super().get_object(Bucket=Bucket, Key=Key, Range=Range, IfMatch=IfMatch)  # type: ignore[no-any-return]
        begin, _, last = Range.removeprefix("bytes=").partition("-")
        first, end = int(begin or 0), int(last) + 1 if last else None
        when = dt.datetime.fromtimestamp(START, dt.UTC)
        if Bucket == "work":
            with self._file(Key).open("rb") as file:
                file.seek(first)
                data = file.read(-1 if end is None else end - first)
            return {"Body": Body(data), "ContentLength": len(data), "ETag": "x", "LastModified": when}
        body = Endless(self._large, first, end)
        return {"Body": body, "ContentLength": body.size - first, "ETag": '"large"', "LastModified": when}


def digest(table: FlowTable) -> tuple[int, int]:
    """How many flows, and a sum of hashes of them that no order changes."""
    total = 0
    for record in flow_records(table):
        total += int.from_bytes(hashlib.blake2b(json.dumps(record).encode(), digest_size=8).digest())
    return len(table), total % 2**64


def stored(cloud: InMemory, entry: Entry) -> tuple[int, int]:
    """The digest of the flows that are stored of a capture."""
    tables = []
    for volume in volumes(cloud.items, entry):
        keys = [segment_key(volume.name, *place) for place in volume.shelves.items()]
        found = cloud.items.get_all(keys)
        assert len(found) == len(keys)
        tables += [segments.read(item["data"], entry.census.sensor, entry.census.piece) for item in found]
    return digest(once(FlowTable.joined(tables)))


def read_in_one_go(entry: Entry, body: BinaryIO) -> tuple[int, int]:
    """The digest of the flows that one reader sees."""
    digests = Digests()
    read_sensor(entry.census.sensor, [Piece(entry.census.piece, lambda: body)], sink=digests)
    return digests.count, digests.total


class Digests:
    """The sum of the digests of flows."""

    def __init__(self) -> None:
        self.count = self.total = 0

    def part(self, flows: FlowColumns, _parts: int) -> tuple[int, int]:
        """The digest of some flows."""
        return digest(flows.table())

    def add(self, _sensor: str, part: tuple[int, int]) -> None:
        """Add one."""
        self.count, self.total = self.count + part[0], (self.total + part[1]) % 2**64


def megabytes() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run it and print what came out, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=2000, help="small captures")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the large capture")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compare", action="store_true", help="leave out the comparison of the large capture")
    given = parser.parse_args()
    chance, size = random.Random(given.seed), int(given.gigabytes * 10**9)  # noqa: S311  no secret
    with tempfile.TemporaryDirectory() as folder:
        cloud = InMemory(CAPTURE_MEGABYTES="100000")
        cloud.stack.__dict__["s3"] = cloud.s3 = Disk(Path(folder), size)
        small = {f"tap/{i}.pcap": pcap(conversations(6, seed=i)) for i in range(given.small)}
        events = [object_created(cloud.upload(key, body)) for key, body in small.items()]
        events += [object_created(ObjectName("captures", LARGE, etag="large"))] * bool(size)
        before, begun, handled = megabytes(), time.perf_counter(), 0
        waiting = [event for event in events for _ in range(chance.choice((1, 2)))]
        slowest = 0.0
        while waiting:
            body = waiting.pop(chance.randrange(len(waiting)))
            one = time.perf_counter()
            for event in read_message(body):
                match event:
                    case ObjectCreated(name):
                        ingest(cloud.stack, name)
                    case RangeToRead(name, index, told):
                        ingest_range(cloud.stack, name, index, told=told)
                    case PartToStore(name, part):
                        ingest_part(cloud.stack, name, part)
            slowest, handled = max(slowest, time.perf_counter() - one), handled + 1
            for message in cloud.messages("ingest"):
                waiting += [message] * chance.choice((1, 2))
        seconds, peak = time.perf_counter() - begun, megabytes()
        entries = listed(cloud.items, GROUP, Window(START * 10**9 - 10**12, START * 10**9 + 10**15))
        assert sorted(entry.source.key for entry in entries) == sorted([*small, LARGE][: len(small) + bool(size)])
        for entry in entries:
            if entry.source.key != LARGE:
                assert stored(cloud, entry) == read_in_one_go(entry, io.BytesIO(small[entry.source.key]))
            elif not given.no_compare:
                assert stored(cloud, entry) == read_in_one_go(
                    entry, cast("BinaryIO", io.BufferedReader(Endless(size), 1 << 20))
                )
        large = next((entry for entry in entries if entry.source.key == LARGE), None)
        print(
            json.dumps(
                {
                    "small": given.small,
                    "gigabytes": size / 1e9,
                    "messages": handled,
                    "seconds": round(seconds, 1),
                    "slowest_message_seconds": round(slowest, 2),
                    "megabytes_before": round(before),
                    "megabytes_peak": round(peak),
                    "packets": large.census.packets if large else 0,
                    "flows": large.flows if large else 0,
                    "parts": large.parts if large else 0,
                    "compared": not given.no_compare,
                }
            )
        )


if __name__ == "__main__":
    main()
