"""What storing costs beside reading: CPU of packing, signing and sending, and what the items take of the table.

    python scripts/store_bench.py -n 1000000

Items go to a stub on the loopback that answers every request after 6 ms, in a process of its own: only the client's CPU
counts. Captures are those of scripts/bench.py. The figures stand in `backscatter.store.prices`, and `scripts/cost.py`
makes dollars of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from bench import FLOWS, made
from botocore.config import Config

from backscatter.cloud.dynamo import DynamoItems
from backscatter.flow.address import Address
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.window import Window
from backscatter.store.captures import put_capture
from backscatter.store.catalogue import CaptureObject
from backscatter.store.cost import item_size
from backscatter.store.memory import MemoryItems
from backscatter.store.scene import StoredScene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.flow.read import SensorFlows

#: Seconds after which the stub answers.
DELAY = 0.006
KEY = bytes(range(32))
EXPIRES_AT = 2**31


class Stub(BaseHTTPRequestHandler):
    """A table that takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the request, wait, say that all was taken."""
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(DELAY)
        # A listing is asked for before anything is written: there is none.
        body = b'{"Responses":{},"UnprocessedItems":{},"UnprocessedKeys":{}}'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve() -> None:
    """Tell the port, and answer until the process is ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextlib.contextmanager
def stub() -> Iterator[DynamoItems]:
    """Items whose table is the stub."""
    with subprocess.Popen([sys.executable, __file__, "--stub"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        client = boto3.client(
            "dynamodb",
            endpoint_url=f"http://127.0.0.1:{int(process.stdout.readline())}",
            region_name="us-east-1",
            aws_access_key_id="stub",
            aws_secret_access_key="stub",  # noqa: S106  the stub looks at none
            config=Config(parameter_validation=False),
        )
        try:
            yield DynamoItems(client, "stub")
        finally:
            process.terminate()


def seconds(work: Any, times: int) -> tuple[float, Any]:
    """The least CPU seconds of the process that the work took, and what it gave."""
    taken = []
    for _ in range(times):
        begun = time.process_time()
        given = work()
        taken.append(time.process_time() - begun)
    return min(taken), given


def measure(kind: str, packets: int, times: int, items: DynamoItems) -> dict[str, Any]:
    """The figures of one capture."""
    with tempfile.TemporaryDirectory() as folder:
        path, _ = made(kind, packets, Path(folder))
        size = path.stat().st_size
        reading, sensor = seconds(lambda: read(path, kind), times)
        memory = MemoryItems()
        packing, stored = seconds(lambda: put(MemoryItems(), sensor), times)
        put(memory, sensor)
        sending, _ = seconds(lambda: put(items, sensor), times)
        query = ask(memory, sensor)
    return {
        "capture": kind,
        "packets": packets,
        "capture_bytes": size,
        "flows": len(sensor.table),
        **stored.cost,
        "read_seconds": round(reading, 3),
        "pack_seconds": round(packing, 3),
        "store_seconds": round(sending, 3),
        **query,
    }


def read(path: Path, name: str) -> SensorFlows:
    """Decode and build flows, as the ingest function does."""
    return read_sensor(name, [Piece(name, lambda: path.open("rb"))])


def put(items: Any, sensor: SensorFlows) -> Any:
    """Store the one capture of a sensor."""
    (census,) = sensor.censuses
    source = CaptureObject("bucket", census.piece, "0" * 32)
    return put_capture(items, KEY, sensor.table, census, source, group="default", layout={}, expires_at=EXPIRES_AT)


def ask(memory: MemoryItems, sensor: SensorFlows) -> dict[str, Any]:
    """What it takes to ask for one pair of hosts: items read of the segments, and their kilobytes."""
    row = sensor.table.rows[len(sensor.table) // 2]
    ends = [Address(int(row["version"]), int(row[f"{side}_hi"]), int(row[f"{side}_lo"])) for side in ("src", "dst")]
    (census,) = sensor.censuses
    read: list[int] = []
    kept = memory.get_all

    def counted(keys: Any) -> Any:
        found = kept(keys)
        read.extend(item_size(item) for item in found)
        return found

    memory.get_all = counted  # type: ignore[method-assign]
    scene = StoredScene(memory, KEY, "default")
    found = scene.flows_between([ends[0]], [ends[1]], Window(census.start, census.end))
    assert len(found), "the pair of a flow has that flow"
    # DynamoDB bills a strongly consistent read by 4 KB of each item.
    return {"query_items": len(read), "query_read_units": sum(-(-size // 4096) for size in read)}


def main() -> None:
    """Measure, print, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["backscatter", "mix"], help=f"of {', '.join(FLOWS)}")
    parser.add_argument("-n", "--packets", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=3, help="the least of so many runs is taken (default 3)")
    parser.add_argument("--stub", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stub:
        serve()
    with stub() as items:
        figures = [measure(kind, arguments.packets, arguments.times, items) for kind in arguments.kinds]
    for one in figures:
        print(
            f"{one['capture']}: {one['flows']:,} flows; decode and flows {one['read_seconds']:.2f} s CPU, "
            f"pack {one['pack_seconds']:.2f} s, pack, sign and send {one['store_seconds']:.2f} s = "
            f"{one['store_seconds'] / one['read_seconds']:.2f} times; {one['items']} items, "
            f"{one['write_units'] / one['flows']:.4f} write units a flow; "
            f"a pair reads {one['query_items']} items"
        )
        print(f"    {json.dumps(one)}")


if __name__ == "__main__":
    main()
