"""Suricata's EVE alerts, alone or in the wrapper of AWS Network Firewall.

Formats: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html and
https://docs.aws.amazon.com/network-firewall/latest/developerguide/firewall-logging-contents.html
EVE streams carry many kinds of event in one file. Those that are no alerts are no findings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING

from backscatter.finding.alerted import alerted_packet
from backscatter.finding.fields import TITLE_CHARS, Fields, Place
from backscatter.finding.model import AlertedPacket, End, Finding, Tuple
from backscatter.flow.address import Address
from backscatter.flow.community import community_id
from backscatter.flow.protocol import proto_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Base64 characters of the largest packet that IP allows, with its link header.
_PACKET_CHARS = (65535 + 256) * 4 // 3
_MOST_TAGS = 8


def is_event(document: Mapping[str, object]) -> bool:
    """Whether a JSON object is an EVE event of any kind."""
    return isinstance(document.get("event_type"), str)


def is_firewall_event(document: Mapping[str, object]) -> bool:
    """Whether a JSON object is an EVE event in the wrapper of AWS Network Firewall."""
    return isinstance(document.get("firewall_name"), str) and isinstance(document.get("event"), dict)


def read(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of an EVE alert; nothing for other kinds of event. Raises FindingError naming the field."""
    if document.get("event_type") == "alert":
        yield _finding(Fields(document, place), "suricata", None)


def read_firewall(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of an alert of AWS Network Firewall; nothing for its other records."""
    wrapper = Fields(document, place)
    event = wrapper.child("event")
    if event.text("event_type") == "alert":
        yield _finding(event, "network_firewall", wrapper.moment("event_timestamp"))


def _finding(event: Fields, source: str, told: int | None) -> Finding:
    alert = event.child("alert")
    if "signature_id" not in alert and "signature" not in alert:
        raise event.place.error("field alert: an alert without signature and signature_id")
    time = event.moment("timestamp")
    last = told if time is None else time
    start = event.child("flow").moment("start")
    conversation = Tuple(
        event.protocol("proto"),
        End(event.address("src_ip"), _port(event, "src_port")),
        End(event.address("dest_ip"), _port(event, "dest_port")),
    )
    packet, notes = _packet(event, conversation)
    community = event.text("community_id")
    if community and _community_id(conversation) not in (None, community):
        notes += ("the alert's community id is not that of its addresses and ports (seed 0)",)
    return Finding(
        id=_id(event, alert, conversation),
        source=source,
        type=alert.text("signature_id"),
        title=alert.text("signature", TITLE_CHARS) or f"signature {alert.text('signature_id')}",
        severity=alert.measure("severity"),
        # Suricata may give a flow's start in the packet's future where captures are replayed.
        first_seen=last if start is None else min(start, start if last is None else last),
        last_seen=start if last is None else last,
        tuples=(conversation,) if conversation.a.ip or conversation.b.ip else (),
        vlan=tuple(_vlan(event)),
        packet=packet,
        community_id=community,
        capture_file=event.text("capture_file"),
        pcap_cnt=event.integer("pcap_cnt", 0, 2**64 - 1) or None,
        tunnel=_tunnel(event),
        origin=str(event.place),
        notes=notes,
    )


def _community_id(conversation: Tuple) -> str | None:
    """The community id that the conversation has; None for ICMP, whose types EVE keeps elsewhere, or without an end."""
    a, b = conversation.a, conversation.b
    proto = proto_number(conversation.proto) if conversation.proto else None
    if proto is None or a.ip is None or b.ip is None:
        return None
    return community_id(proto, Address.parse(a.ip), Address.parse(b.ip), a.port, b.port)


def _tunnel(event: Fields) -> Tuple | None:
    """The ends of the outermost tunnel: the alert's own addresses are the innermost packet's."""
    if "tunnel" not in event:
        return None
    tunnel = event.child("tunnel")
    return Tuple(
        tunnel.protocol("proto"),
        End(tunnel.address("src_ip"), tunnel.port("src_port")),
        End(tunnel.address("dest_ip"), tunnel.port("dest_port")),
    )


def _port(event: Fields, name: str) -> int | None:
    return None if event.protocol("proto") in {"icmp", "icmp6"} else event.port(name)


def _vlan(event: Fields) -> Iterator[int]:
    """The tags, outermost first; the priority bits are none of the tag."""
    return (tag & 0xFFF for tag in event.integers("vlan", _MOST_TAGS, 0xFFFF))


def _id(event: Fields, alert: Fields, conversation: Tuple) -> str:
    """An id from what makes the alert itself, in a fixed order: the order of the JSON's keys changes nothing.

    A field `id` that somebody's pipeline adds is not trusted: alerts that share one would be taken for one alert.
    """
    essence = [
        *(event.text(name) for name in ("flow_id", "timestamp", "pcap_cnt", "tx_id")),
        *(alert.text(name) for name in ("gid", "signature_id")),
        conversation.proto,
        conversation.a.ip,
        conversation.a.port,
        conversation.b.ip,
        conversation.b.port,
    ]
    return hashlib.sha256(json.dumps(essence).encode()).hexdigest()[:32]


def _packet(event: Fields, conversation: Tuple) -> tuple[AlertedPacket | None, tuple[str, ...]]:
    """What the alert's own packet shows, or why it shows nothing: a damaged packet does not cost the finding."""
    text = event.text("packet", _PACKET_CHARS + 1)
    if not text:
        return None, ()
    linktype = event.child("packet_info").integer("linktype", 0, 0xFFFF)
    try:
        frame = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None, ("the packet in the alert is no base64, or too long: it was not used",)
    packet = alerted_packet(frame, 1 if linktype is None else linktype, conversation)
    if packet is None:
        return None, ("the packet in the alert is not of the alert's conversation, or unreadable: it was not used",)
    return packet, ()
