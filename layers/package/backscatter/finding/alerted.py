"""The packet that an alert carries: decoded like any captured packet, believed only where it fits its alert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.capture.record import RecordBlock
from backscatter.decode.columns import OK
from backscatter.finding.fields import protocol_name
from backscatter.finding.model import AlertedPacket
from backscatter.flow.address import Address

if TYPE_CHECKING:
    from backscatter.finding.model import Tuple

#: Suricata tells libpcap's DLT_ number, which differs from LINKTYPE_ for raw IP: 12, or 14 on OpenBSD
#: (https://www.tcpdump.org/linktypes.html).
_RAW_DLT = {12: 101, 14: 101}


def alerted_packet(frame: bytes, linktype: int, conversation: Tuple) -> AlertedPacket | None:
    """What a frame of a link type shows, or None where it is unreadable or not a packet from `a` to `b`."""
    # The decoder pulls in dpkt; alerts with a packet are few.
    from backscatter.decode.decoder import Decoder  # noqa: PLC0415

    packets = Decoder().decode(_one_record(frame, _RAW_DLT.get(linktype, linktype)))
    if len(packets) != 1 or packets["status"][0] != OK:
        return None
    row = {name: int(column[0]) for name, column in packets.columns.items()}
    source = Address(row["version"], row["src_hi"], row["src_lo"])
    target = Address(row["version"], row["dst_hi"], row["dst_lo"])
    proto = protocol_name(row["proto"])
    if (proto, str(source), str(target)) != (conversation.proto, conversation.a.ip, conversation.b.ip):
        return None
    if proto != "tcp":
        return AlertedPacket(ttl=row["ttl"])
    if (row["src_port"], row["dst_port"]) != (conversation.a.port, conversation.b.port):
        return None
    return AlertedPacket(row["flags"], row["seq"], row["ack"], row["window"], row["ttl"])


def _one_record(frame: bytes, linktype: int) -> RecordBlock:
    return RecordBlock(
        data=np.frombuffer(frame, np.uint8),
        body=np.zeros(1, np.int64),
        caplen=np.array([len(frame)], np.int64),
        wirelen=np.array([len(frame)], np.int64),
        time=np.zeros(1, np.int64),
        offset=np.zeros(1, np.int64),
        linktype=np.array([linktype], np.int32),
    )
