"""`flow` and `netflow` events of Suricata's EVE, alone or in the wrapper of AWS Network Firewall.

Format: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html
A `flow` tells both directions, a `netflow` one. Flags of 0 with packets mean that Suricata did not look, or kept no
session (a conversation that begins with SYN+ACK, without `midstream`): unknown, never "no flags".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from backscatter.errors import FindingError
from backscatter.finding.fields import Fields, Place
from backscatter.flow.address import Address
from backscatter.flow.protocol import proto_number
from backscatter.session.model import Sent, Session

if TYPE_CHECKING:
    from collections.abc import Container

PORTED = (6, 17, 132)
_HEX = frozenset("0123456789abcdefABCDEF")


def is_event(line: bytes) -> bool:
    """Whether a line may be an event of EVE or of AWS Network Firewall."""
    return line.startswith(b"{") and (b'"event_type"' in line or b'"firewall_name"' in line)


def read(line: bytes, name: str, number: int, wanted: Container[bytes]) -> Session | None:
    """The session of a line; None where it is another kind of event or about none of the `wanted` hosts.

    Raises FindingError naming the field that cannot be read.
    """
    if b'flow"' not in line:  # "flow" and "netflow"; most events are neither
        if not is_event(line):
            raise FindingError(name, number, "JSON, but no event of EVE: it has no event_type")
        return None
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise FindingError(name, number, "no JSON object on one line") from None
    event, source = document, "suricata"
    if isinstance(document, dict) and isinstance(document.get("event"), dict):
        event, source = document["event"], "network firewall"
    if not isinstance(event, dict) or event.get("event_type") not in ("flow", "netflow"):
        return None
    ends = str(event.get("src_ip")), str(event.get("dest_ip"))
    if not any(_text(end) in wanted for end in ends):
        return None
    return _session(Fields(event, Place(name, number)), str(event["event_type"]), source, f"{name}:{number}")


def _text(address: str) -> bytes:
    try:
        return str(Address.parse(address)).encode()
    except ValueError:
        return b""


def _session(event: Fields, kind: str, source: str, place: str) -> Session:
    src, dst = event.address("src_ip"), event.address("dest_ip")
    told = event.protocol("proto")
    proto = proto_number(told) if told else None
    counted = event.child(kind)
    start, end = counted.moment("start"), counted.moment("end")
    if src is None or dst is None or proto is None or start is None or end is None:
        raise event.place.error(f"a {kind} event without its addresses, its protocol, its start or its end")
    ported = proto in PORTED
    tcp = event.child("tcp") if proto == 6 else None
    if kind == "flow":
        forth = _sent(counted, tcp, "_toserver", "_ts")
        back = _sent(counted, tcp, "_toclient", "_tc")
    else:
        forth, back = _sent(counted, tcp, "", ""), None
    return Session(
        proto=proto,
        src=Address.parse(src),
        dst=Address.parse(dst),
        sport=event.port("src_port") if ported else None,
        dport=event.port("dest_port") if ported else None,
        start=min(start, end),
        end=max(start, end),
        forth=forth,
        back=back,
        action="",
        began=kind == "flow",
        source=source,
        place=place,
    )


def _sent(counted: Fields, tcp: Fields | None, way: str, short: str) -> Sent:
    packets = counted.integer(f"pkts{way}", 0, 1 << 62) or 0
    size = counted.integer(f"bytes{way}", 0, 1 << 62) or 0
    text = tcp.text(f"tcp_flags{short}") if tcp is not None else ""
    flags = int(text, 16) if 0 < len(text) <= 2 and set(text) <= _HEX else None
    return Sent(packets, size, flags or None)
