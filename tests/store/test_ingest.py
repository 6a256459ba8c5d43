"""Real packets: what a judge is shown of the store is what he is shown of the captures themselves."""

from __future__ import annotations

import io

import pytest
from tests.store.tables import DAY, EXPIRY, KEY, source
from tests.verdict.tape import ISN, Tape, alert, seconds

from backscatter.demo import case2007
from backscatter.demo.wire import pcap
from backscatter.finding.recognise import read_findings
from backscatter.flow.address import Address
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, SensorFlows, read_sensor
from backscatter.flow.window import Window
from backscatter.report.record import verdict_record
from backscatter.store.captures import put_capture
from backscatter.store.memory import MemoryItems
from backscatter.store.scene import StoredScene, look
from backscatter.verdict.judge import judge
from backscatter.verdict.settings import Settings, parse_home


def stored(*captures: SensorFlows) -> StoredScene:
    items = MemoryItems()
    for flows in captures:
        (piece,) = flows.pieces
        put_capture(
            items,
            KEY,
            flows.table,
            flows.censuses[0],
            source(flows.censuses[0].piece),
            group="vpc",
            layout=piece.layout.to_json(),
            expires_at=EXPIRY,
        )
    return StoredScene(items, KEY, "vpc")


def read(name: str, data: bytes) -> SensorFlows:
    return read_sensor("tap", [Piece(name, lambda: io.BytesIO(data))])


def test_the_2007_case_is_judged_from_the_store_as_from_the_capture():
    flows = read("case.pcap", case2007.capture())
    (finding,) = read_findings(case2007.sguil_alert().encode(), "sguil")
    settings = Settings(home=parse_home(["69.143.202.28"]), aliases=())
    local = verdict_record(judge(finding, TableScene([flows]), settings))
    assert verdict_record(look(stored(flows), lambda scene: judge(finding, scene, settings))) == local
    assert (local["verdict"], local["rule"], local["band"]) == ("backscatter", "R4", "confirmed")


def test_what_goes_on_behind_the_window_counts_though_a_capture_ended_there():
    """The store has each capture's flows as they are: what is one flow on the laptop are two there."""
    tape = Tape().ordinary(0, 800, every=1.7).synack(359.5)
    tape.theirs(361.1, "PA", seq=78, ack=ISN, payload=b"welcome")
    records = sorted(tape.records)
    pieces = [pcap([one for one in records if (one[0] < seconds(360.5)) is early]) for early in (True, False)]
    scene = stored(*(read(f"{number}.pcap", data) for number, data in enumerate(pieces)))
    verdicts = [tape.judged(), look(scene, lambda scene: judge(alert(), scene, Settings()))]
    assert [(verdict.label.value, verdict.rule) for verdict in verdicts] == 2 * [("connection_established", "R2")]


@pytest.mark.parametrize(
    "name",
    [
        "ncsa__backscatter-192.150.186.pcap",
        "sv__vxlan-decoder-03-vxlan.pcap",
        "slips__test12-icmp-portscan.pcap",
        "nDPI__teredo.pcap",
        "sv__http-ipv6-input.pcap",
    ],
)
def test_every_host_of_a_real_capture_has_the_same_flows_in_the_store(captures, name):
    flows = read(name, (captures / name).read_bytes())
    (census,) = flows.censuses
    window = Window(census.start, min(census.end, census.start + DAY))
    memory, store = TableScene([flows]), stored(flows)
    rows = flows.table.rows
    hosts = {
        Address(int(row["version"]), int(row[f"{side}_hi"]), int(row[f"{side}_lo"]))
        for row in rows[:: max(1, len(rows) // 40)]
        for side in ("src", "dst")
    }
    pairs = list(zip(sorted(hosts), sorted(hosts)[1:], strict=False))
    for host in hosts:
        assert texts(store.flows_of([host], window)) == texts(memory.flows_of([host], window))
    for one, other in pairs:
        assert texts(store.flows_between([one], [other], window)) == texts(memory.flows_between([one], [other], window))
    assert store.censuses(window) == [census]


def texts(table) -> list[tuple[bytes, str, tuple[str, ...], list[bytes]]]:
    """The flows with their names in place of numbers, each with its quotes."""
    found = []
    for i, row in enumerate(table.rows):
        quotes = table.quotes[table.quotes["flow"] == i]
        plain = row.copy()
        first = table.quotes[row["quote"]]["dst_lo"] if row["quote"] >= 0 else None
        plain["scope"] = plain["tunnels"] = plain["quote"] = 0
        quotes["flow"] = 0
        names = table.scopes[row["scope"]], table.tunnels[row["tunnels"]], first
        found.append((plain.tobytes(), *names, sorted(quote.tobytes() for quote in quotes)))
    return sorted(found, key=repr)
