"""Flows as the objects that `backscatter flows --json` prints, field by field as the contract orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.icmp import COUNTERPARTS
from backscatter.flow.address import Address
from backscatter.flow.community import community_ids
from backscatter.flow.conversation import TCP
from backscatter.flow.protocol import proto_name
from backscatter.flow.table import CONN_STATES, HAS_RST, HAS_SYN, HAS_SYNACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backscatter.flow.table import FlowTable

#: TCP flags in the order in which the contract prints them; bit i of the wire's byte is letter i.
FLAG_LETTERS = "FSRPAUEC"

_LETTERS_OF = tuple(
    "".join(letter for bit, letter in enumerate(FLAG_LETTERS) if bits >> bit & 1) for bits in range(256)
)

_ICMP = frozenset(COUNTERPARTS)


def rfc3339(time_ns: int) -> str:
    """A time in ns since 1970-01-01 UTC as RFC 3339 with nine decimals: `2007-03-20T18:04:19.731091000Z`."""
    return f"{np.datetime64(time_ns, 'ns')}Z"


def flag_letters(bits: int) -> str:
    """TCP flags as letters: 0x12 is `SA`."""
    return _LETTERS_OF[bits]


def flow_records(table: FlowTable) -> Iterator[dict[str, Any]]:
    """One JSON-able dict a flow, in the order of the table; `sensor` comes last, where there are several."""
    rows = table.rows
    columns: dict[str, list[Any]] = {
        "start": _times(rows["start"]),
        "end": _times(rows["end"]),
        "proto": [proto_name(proto) for proto in rows["proto"].tolist()],
        **_ends(rows),
        **_icmp(rows),
        "scope": [table.scopes[scope] for scope in rows["scope"].tolist()],
        "tunnels": [list(table.tunnels[stack]) for stack in rows["tunnels"].tolist()],
    }
    for name in ("packets", "bytes", "payload"):
        for side in ("src", "dst"):
            columns[f"{side}_{name}"] = rows[f"{side}_{name}"].tolist()
    is_tcp = (rows["proto"] == TCP).tolist()
    for side in ("src", "dst"):
        flags = rows[f"{side}_flags"].tolist()
        columns[f"{side}_flags"] = [_LETTERS_OF[bits] if tcp else None for bits, tcp in zip(flags, is_tcp, strict=True)]
    columns["history"] = [history.decode("ascii") for history in rows["history"].tolist()]
    columns["conn_state"] = [CONN_STATES[state] or None for state in rows["conn_state"].tolist()]
    columns["community_id"] = community_ids(table)
    quoted = _quoted(table)
    columns["quoted"] = [quoted[row] if row >= 0 else None for row in rows["quote"].tolist()]
    columns["tcp"] = [
        {"src": src, "dst": dst} if tcp else None
        for tcp, src, dst in zip(is_tcp, _numbers(rows, "src"), _numbers(rows, "dst"), strict=True)
    ]
    if len(table.sensors) > 1:
        columns["sensor"] = [table.sensors[sensor] for sensor in rows["sensor"].tolist()]
    names = tuple(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _times(times: NDArray[np.int64]) -> list[str]:
    text: list[str] = np.datetime_as_string(times.astype("M8[ns]"), timezone="UTC").tolist()
    return text


def _ends(rows: NDArray[np.void]) -> dict[str, list[Any]]:
    """Addresses and ports; ports are None where there are none, and for ICMP, where types stand in their place."""
    version = rows["version"].tolist()
    has_ports = ((rows["has_ports"] != 0) & ~np.isin(rows["proto"], tuple(_ICMP))).tolist()
    ends: dict[str, list[Any]] = {}
    for side in ("src", "dst"):
        addresses = zip(version, rows[f"{side}_hi"].tolist(), rows[f"{side}_lo"].tolist(), strict=True)
        ends[f"{side}_ip"] = [str(Address(*address)) for address in addresses]
        ports = rows[f"{side}_port"].tolist()
        ends[f"{side}_port"] = [port if has else None for port, has in zip(ports, has_ports, strict=True)]
    return ends


def _icmp(rows: NDArray[np.void]) -> dict[str, list[int | None]]:
    """Type and code of the first packet; None where it is no ICMP or a later fragment of it."""
    told = ((rows["has_ports"] != 0) & np.isin(rows["proto"], tuple(_ICMP))).tolist()
    return {
        name: [value if is_icmp else None for value, is_icmp in zip(rows[name].tolist(), told, strict=True)]
        for name in ("icmp_type", "icmp_code")
    }


def _quoted(table: FlowTable) -> list[dict[str, Any]]:
    """Every row of the quotes as the contract prints it."""
    protos = [proto_name(proto) for proto in table.quotes["proto"].tolist()]
    ends = _ends(table.quotes)
    names = ("proto", *ends)
    return [dict(zip(names, values, strict=True)) for values in zip(protos, *ends.values(), strict=True)]


def _numbers(rows: NDArray[np.void], side: str) -> list[dict[str, int | None]]:
    """The TCP numbers of one side's first SYN, SYN+ACK and RST."""
    fields = (
        ("syn_seq", HAS_SYN),
        ("synack_seq", HAS_SYNACK),
        ("synack_ack", HAS_SYNACK),
        ("rst_seq", HAS_RST),
        ("rst_ack", HAS_RST),
    )
    has = rows[f"{side}_has"].tolist()
    columns = [
        [value if bits & bit else None for value, bits in zip(rows[f"{side}_{name}"].tolist(), has, strict=True)]
        for name, bit in fields
    ]
    names = tuple(name for name, _ in fields)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
