"""Flow tables for the tests of the store: any bytes at all, and plausible flows of a capture."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from backscatter.decode.columns import NOWHERE, PLACE_BITS
from backscatter.flow.address import Address
from backscatter.flow.census import Census, ScopeCensus
from backscatter.flow.table import CONN_STATES, FLOW, FLOW_QUOTE, HAS_RST, HAS_SYNACK, FlowTable
from backscatter.store.catalogue import CaptureObject

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOON = 1_700_000_000 // 86400 * DAY + 12 * HOUR
KEY = b"a deployment's own key"
EXPIRY = 1_800_000_000


def host(number: int) -> Address:
    return Address(4, 0, 0x0A000000 + number)


def put_address(row, side: str, address: Address) -> None:
    row[f"{side}_hi"], row[f"{side}_lo"] = address.hi, address.lo


def flows(
    pairs: list[tuple[int, int]],
    *,
    start: int = NOON,
    step: int = SECOND,
    sensor: str = "tap",
    piece: str = "one.pcap",
    seed: int = 1,
    first_place: int = 24,
) -> FlowTable:
    """One flow for each pair of hosts: a SYN+ACK and the RST that answers it."""
    random = np.random.default_rng(seed)
    count = len(pairs)
    rows = np.zeros(count, FLOW)
    rows["version"], rows["proto"], rows["has_ports"], rows["quote"] = 4, 6, 1, -1
    for row, (src, dst) in zip(rows, pairs, strict=True):
        put_address(row, "src", host(src))
        put_address(row, "dst", host(dst))
    rows["src_port"], rows["dst_port"] = 80, random.integers(1024, 65536, count)
    rows["start"] = start + np.arange(count) * step
    rows["end"] = rows["start"] + random.integers(10**5, 10**6, count)
    rows["history"], rows["conn_state"] = b"Hr", CONN_STATES.index("REJ")
    for name in ("src_packets", "src_synacks", "dst_packets", "dst_rsts", "dst_bare_rsts", "dst_exact_rsts"):
        rows[name] = 1
    rows["src_has"], rows["dst_has"] = HAS_SYNACK, HAS_RST
    rows["src_bytes"], rows["dst_bytes"] = 40, 40
    rows["src_synack_seq"], rows["src_synack_ack"] = random.integers(0, 2**32, (2, count))
    rows["src_ack_first"] = rows["src_synack_ack"]
    rows["dst_rst_seq"], rows["src_flags"], rows["dst_flags"] = rows["src_synack_ack"], 18, 4
    rows["src_first"] = rows["src_last"] = rows["src_synack_time"] = rows["start"]
    rows["dst_first"] = rows["dst_last"] = rows["end"]
    rows["src_places"], rows["dst_places"] = NOWHERE, NOWHERE
    rows["src_places"][:, 0] = first_place + np.arange(count) * 140
    rows["dst_places"][:, 0] = rows["src_places"][:, 0] + 70
    return FlowTable(rows, np.zeros(0, FLOW_QUOTE), sensors=(sensor,), pieces=(piece,))


def quoting(table: FlowTable, quoted: list[tuple[int, int, int]]) -> FlowTable:
    """The table with quotes: (row, quoted source, quoted destination); the first one of a row leads it."""
    quotes = np.zeros(len(quoted), FLOW_QUOTE)
    for i, (row, src, dst) in enumerate(quoted):
        put_address(quotes[i], "src", host(src))
        put_address(quotes[i], "dst", host(dst))
        quotes[i]["flow"] = row
        if table.rows["quote"][row] < 0:
            table.rows["quote"][row] = i
    quotes["version"], quotes["proto"], quotes["count"] = 4, 6, 1
    quotes["time"] = table.rows["start"][quotes["flow"]]
    quotes["place"] = table.rows["src_places"][quotes["flow"], 0]
    quotes["src_port"] = np.arange(len(quoted)) % 65536
    table.quotes = quotes
    return table


def census(
    table: FlowTable, *, start: int | None = None, end: int | None = None, clock_ok: bool = True, scopes=None
) -> Census:
    times = table.rows["start"] if len(table) else np.array([NOON])
    first = int(times.min()) if start is None else start
    last = int(table.rows["end"].max() if len(table) else NOON) if end is None else end
    packets = int(table.rows["src_packets"].sum() + table.rows["dst_packets"].sum())
    return Census(
        piece=table.pieces[0],
        sensor=table.sensors[0],
        start=first,
        end=last,
        packets=packets,
        median_gap=1000,
        scopes=scopes or {"": ScopeCensus(packets, first, last, 60, 0)},
        clock_ok=clock_ok,
    )


def source(piece: str, version: str = "v1", modified: int = 0) -> CaptureObject:
    return CaptureObject("captures", piece, version, modified)


def same(one: FlowTable, other: FlowTable) -> bool:
    return (
        one.rows.tobytes() == other.rows.tobytes()
        and one.quotes.tobytes() == other.quotes.tobytes()
        and (len(one) == 0 or (one.sensors, one.pieces) == (other.sensors, other.pieces))
    )


def _rows_of(dtype: np.dtype, count: int, draw) -> np.ndarray:
    """Rows of any bytes, of small numbers, and of zeros: each column draws its own kind."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    rows = np.zeros(count, dtype)
    for name in dtype.names:
        kind = dtype[name]
        shape = (count, *kind.shape)
        match random.integers(0, 4):
            case 0:
                noise = random.bytes(count * kind.itemsize)
                rows[name] = np.frombuffer(noise, kind).reshape(shape) if kind.base.kind != "S" else b""
            case 1 if kind.base.kind != "S":
                rows[name] = random.integers(0, 3, shape)
            case 2 if kind.base.kind == "i":
                rows[name] = -random.integers(0, 3, shape)
            case _:
                pass
    return rows


@st.composite
def any_tables(draw, most: int = 40) -> FlowTable:
    """Tables of nonsense within the bounds that a table has: names exist, quotes and rows refer to each other."""
    count = draw(st.integers(0, most))
    quote_count = draw(st.integers(0, 10)) if count else 0
    rows, quotes = _rows_of(FLOW, count, draw), _rows_of(FLOW_QUOTE, quote_count, draw)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scopes = ("", *(f"vni:{i}" for i in range(draw(st.integers(0, 3)))))
    tunnels = ((), ("vxlan",), ("geneve", "vxlan"))
    histories = [b"", b"Hr", b"ShADadFf", b"D" * 40]
    rows["sensor"] = 0
    rows["scope"] = random.integers(0, len(scopes), count)
    rows["tunnels"] = random.integers(0, len(tunnels), count)
    rows["history"] = [histories[i] for i in random.integers(0, len(histories), count)]
    rows["quote"] = random.integers(-1, quote_count, count)
    for places in (rows["src_places"], rows["dst_places"], quotes["place"]):
        places[...] = random.integers(-1, 1 << PLACE_BITS, places.shape)
    quotes["flow"] = np.sort(random.integers(0, max(1, count), quote_count))
    return FlowTable(rows, quotes, scopes, tunnels, ("tap",), ("one.pcap",))
