"""A capture that is too large for one function, on the deployed template: shared out, stored, listed."""

import io
import random

import pytest
from tests.cloud.test_large import by_start
from tests.endtoend.test_deployed import until

from backscatter.cloud.dynamo import DynamoItems
from backscatter.cloud.stack import GROUP
from backscatter.demo import case2007
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.table import FlowTable
from backscatter.flow.window import Window
from backscatter.store import segments
from backscatter.store.captures import segment_key, volumes
from backscatter.store.catalogue import listed
from backscatter.store.scene import once

# One local cloud for all of them: they run in one worker.
pytestmark = pytest.mark.xdist_group("cloud")


def test_a_capture_beyond_two_ranges_is_shared_out_and_holds_the_flows_of_a_single_pass(cloud, stack, later):
    chance, start = random.Random(3), case2007.START + later
    frames = [
        ether(tcp(f"10.3.0.{i % 97}", 3000 + i % 97, "192.0.2.8", 443, "PA", seq=i // 97 * 1300, ack=1, payload=body))
        for i, body in ((i, chance.randbytes(1300)) for i in range(2600))
    ]
    body = pcap([(start + i * 10**6, frame) for i, frame in enumerate(frames)])
    assert 3e6 < len(body) < 4e6
    cloud.client("s3").put_object(Bucket=stack["CaptureBucket"], Key="large/a.pcap", Body=body)
    items = DynamoItems(cloud.client("dynamodb"), stack["Table"])
    window = Window(start, start + 60 * case2007.SECOND)
    (entry,) = until(
        lambda: [one for one in listed(items, GROUP, window) if one.source.key == "large/a.pcap"], "listed"
    )
    assert entry.parts
    tables = []
    for volume in volumes(items, entry):
        found = items.get_all([segment_key(volume.name, *place) for place in volume.shelves.items()])
        tables += [segments.read(item["data"], entry.census.sensor, entry.census.piece) for item in found]
    expected = read_sensor("s", [Piece(entry.census.piece, lambda: io.BytesIO(body))])
    assert by_start(once(FlowTable.joined(tables))) == by_start(expected.table)
    assert entry.census.packets == len(frames)
