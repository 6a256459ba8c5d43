"""What an IP packet carries: ports, TCP numbers, payload lengths, ICMP and what its errors quote."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from backscatter.decode.columns import DNS_ANSWER, HAS_PORTS, NO_FLAGS, ONE_WAY
from backscatter.decode.headers import Icmp, Tcp, Udp, cut, whole
from backscatter.decode.icmp import ERRORS, ICMP, ICMP6, port_pair
from backscatter.decode.ip import read_ip
from backscatter.decode.names import named
from backscatter.decode.network import raw_ip
from backscatter.decode.speech import speech

if TYPE_CHECKING:
    from backscatter.decode.ip import Ip

TCP, UDP, SCTP = 6, 17, 132

LOW = 2**64 - 1

#: Bytes of a TCP header up to and with its flags.
TCP_FLAGS_END = 14

Row = dict[str, int]


def addresses(ip: Ip) -> Row:
    """Both addresses as the columns have them."""
    return {"src_hi": ip.src >> 64, "src_lo": ip.src & LOW, "dst_hi": ip.dst >> 64, "dst_lo": ip.dst & LOW}


def ports(frame: bytes, ip: Ip) -> Row:
    """Source and destination port, which TCP, UDP and SCTP all begin with."""
    if ip.stop - ip.body < 4:
        return {}
    source, destination = struct.unpack_from(">HH", frame, ip.body)
    return {"src_port": source, "dst_port": destination, "traits": HAS_PORTS}


def tcp(frame: bytes, ip: Ip) -> Row:
    """TCP as far as it was captured.

    Where the data offset was cut the header is taken for 20 bytes long: too much payload makes a packet look like a
    real connection, too little like backscatter. A data offset of less than 20 bytes, or an IP packet that has less
    than those, makes the header malformed: as with tshark its ports count, its flags and payload do not, and no
    host would take it.
    """
    row = ports(frame, ip)
    header = cut(Tcp, frame, ip.body, ip.stop)
    captured = ip.stop - ip.body
    malformed = (captured >= TCP_FLAGS_END and header.off < 5) or ip.end - ip.body < Tcp.size
    row |= {
        "seq": header.seq if captured >= 8 else 0,
        "ack": header.ack if captured >= 12 else 0,
        "flags": header.flags & 0xFF,
        "window": header.win if captured >= 16 else 0,
        "payload": max(0, ip.end - ip.body - max(20, header.off * 4)),
    }
    if malformed:
        row["payload"] = 0
    if malformed or captured < TCP_FLAGS_END:
        row["flags"] = 0
        row["traits"] = row.get("traits", 0) | NO_FLAGS
    return row


def udp_payload(ip: Ip, length: int) -> int:
    """Payload bytes of a datagram whose length field is `length`; 0 there means the rest (RFC 2675)."""
    rest = max(0, ip.end - ip.body - 8)
    return rest if length == 0 else min(rest, max(0, length - 8))


def udp(frame: bytes, ip: Ip) -> Row:
    """UDP, with what its payload says of its own role."""
    row = ports(frame, ip)
    header = whole(Udp, frame, ip.body, ip.stop)
    if header is None:
        return row | {"payload": udp_payload(ip, 0)}
    payload = udp_payload(ip, header.ulen)
    body = ip.body + 8
    said = frame[body : min(ip.stop, body + payload)]
    row |= {"payload": payload, "speech": speech(header.sport, header.dport, said, payload)}
    if row["speech"] & DNS_ANSWER:
        row["names"] = named(said)
    return row


def icmp(frame: bytes, ip: Ip) -> Row:
    """ICMP, whose type and its counterpart stand for ports."""
    if ip.stop - ip.body < 2:
        return {}
    header = cut(Icmp, frame, ip.body, ip.stop)
    pair = port_pair(ip.proto, header.type, header.code)
    return {
        "src_port": pair.src,
        "dst_port": pair.dst,
        "traits": HAS_PORTS | (ONE_WAY if pair.one_way else 0),
        "icmp_type": header.type,
        "icmp_code": header.code,
    }


def quoted_ip(frame: bytes, ip: Ip) -> Ip | None:
    """The IP header behind the two words of an ICMP error's own; None where there is none.

    Its length field is not believed: some stacks quote it in the wrong byte order.
    """
    captured, start = frame[: ip.stop], ip.body + 8
    network = raw_ip(captured, start, ip.stop)
    return read_ip(captured, network.kind, start, ip.stop, lengths=False) if network else None


def quote(frame: bytes, ip: Ip) -> Row | None:
    """The packet that an ICMP error quotes, as fields of QUOTE without `packet`; None where there is none."""
    if ip.proto not in ERRORS or ip.stop <= ip.body or frame[ip.body] not in ERRORS[ip.proto]:
        return None
    inner = quoted_ip(frame, ip)
    if inner is None:
        return None
    row = {} if inner.offset else transport(frame, inner)
    return addresses(inner) | {
        "version": inner.version,
        "proto": inner.proto,
        "has_ports": int(bool(row.get("traits", 0) & HAS_PORTS)),
        "src_port": row.get("src_port", 0),
        "dst_port": row.get("dst_port", 0),
        "seq": row.get("seq", 0),
    }


#: protocol -> reader of its columns
TRANSPORTS = {ICMP: icmp, TCP: tcp, UDP: udp, ICMP6: icmp, SCTP: ports}


def transport(frame: bytes, ip: Ip) -> Row:
    """The columns that the payload of an IP packet gives, if it is no later fragment."""
    reader = TRANSPORTS.get(ip.proto)
    return reader(frame, ip) if reader else {}


def later_fragment(ip: Ip, proto: int, traits: int) -> Row:
    """The columns of a fragment that is not the first: all that it carries is payload of `proto`."""
    row = {"payload": max(0, ip.end - ip.body) if proto in {TCP, UDP} else 0}
    return row | {"traits": traits | NO_FLAGS} if proto == TCP else row
