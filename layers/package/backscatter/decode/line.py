"""One packet as a line of text, as `tcpdump -nn -S` prints it.

Only numbers and words of ours are printed, nothing that a packet spells itself: a line is safe on any terminal.
"""

from __future__ import annotations

import ipaddress
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backscatter.decode.columns import NO_FLAGS, NON_IP
from backscatter.decode.decoder import innermost
from backscatter.decode.headers import Icmp, Tcp, Udp, cut, whole
from backscatter.decode.icmp import ICMP, ICMP6
from backscatter.decode.transport import SCTP, TCP, UDP, quoted_ip, tcp, udp_payload

if TYPE_CHECKING:
    from backscatter.capture.record import RecordBlock
    from backscatter.decode.ip import Ip
    from backscatter.decode.tunnels import Path

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: tcpdump's letters for the bits of the flags, lowest first.
FLAG_LETTERS = "FSRP.UEW"

#: protocol -> what tcpdump calls it; others are `ip-proto-N`
PROTOCOLS = {0: "HOPOPT", 2: "IGMP", 4: "IP", 41: "IP6", 43: "RT6", 44: "frag", 46: "RSVP", 47: "GRE", 50: "ESP",
             51: "AH", 59: "no next header", 60: "DSTOPT", 89: "OSPF", 103: "PIM", 112: "VRRP"}  # fmt: skip

#: (protocol, type, code) or (protocol, type) -> words for messages without a quote
ICMP_NAMES: dict[tuple[int, ...], str] = {
    (ICMP, 0): "echo reply",
    (ICMP, 8): "echo request",
    (ICMP, 9): "router advertisement",
    (ICMP, 10): "router solicitation",
    (ICMP, 13): "time stamp query",
    (ICMP, 14): "time stamp reply",
    (ICMP, 15): "information request",
    (ICMP, 16): "information reply",
    (ICMP, 17): "address mask request",
    (ICMP, 18): "address mask reply",
    (ICMP6, 128): "echo request",
    (ICMP6, 129): "echo reply",
    (ICMP6, 130): "multicast listener query",
    (ICMP6, 131): "multicast listener report",
    (ICMP6, 132): "multicast listener done",
    (ICMP6, 133): "router solicitation",
    (ICMP6, 134): "router advertisement",
    (ICMP6, 135): "neighbor solicitation",
    (ICMP6, 136): "neighbor advertisement",
    (ICMP6, 137): "redirect",
    (ICMP6, 143): "multicast listener report v2",
}

#: (protocol, type, code) or (protocol, type) -> words for errors; {dst}, {port}, {proto} are of the quoted packet
ICMP_ERRORS: dict[tuple[int, ...], str] = {
    (ICMP, 3, 0): "net {dst} unreachable",
    (ICMP, 3, 1): "host {dst} unreachable",
    (ICMP, 3, 2): "{dst} {proto} unreachable",
    (ICMP, 3, 3): "{dst} {port} unreachable",
    (ICMP, 3, 4): "{dst} unreachable - need to frag",
    (ICMP, 3, 9): "net {dst} unreachable - admin prohibited",
    (ICMP, 3, 10): "host {dst} unreachable - admin prohibited",
    (ICMP, 3, 13): "host {dst} unreachable - admin prohibited filter",
    (ICMP, 3): "{dst} unreachable - #{code}",
    (ICMP, 4): "source quench",
    (ICMP, 5): "redirect {dst}",
    (ICMP, 11, 0): "time exceeded in-transit",
    (ICMP, 11, 1): "ip reassembly time exceeded",
    (ICMP, 12): "parameter problem",
    (ICMP6, 1, 0): "destination unreachable, unreachable route {dst}",
    (ICMP6, 1, 1): "destination unreachable, unreachable prohibited {dst}",
    (ICMP6, 1, 3): "destination unreachable, unreachable address {dst}",
    (ICMP6, 1, 4): "destination unreachable, unreachable port, {dst} {port}",
    (ICMP6, 1): "destination unreachable, code {code} {dst}",
    (ICMP6, 2): "packet too big",
    (ICMP6, 3): "time exceeded in-transit for {dst}",
    (ICMP6, 4): "parameter problem",
}


def clock(time_ns: int) -> str:
    """A time in ns since 1970 as `2007-03-20 18:04:19.731091000`, UTC; `@seconds` beyond the years 1 to 9999."""
    seconds, fraction = divmod(time_ns, 10**9)
    try:
        return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{fraction:09}"
    except OverflowError:
        return f"@{seconds}.{fraction:09}"


def packet_line(block: RecordBlock, i: int) -> str:
    """Record `i` of `block` as tcpdump prints it, without the time; the tunnels that it came in stand in front."""
    body, caplen = int(block.body[i]), int(block.caplen[i])
    frame = block.data[body : body + caplen].tobytes()
    found = innermost(int(block.linktype[i]), frame, int(block.wirelen[i]))
    return _in_tunnels(found.path) + (ip_line(frame, found.ip) if found.ip else _unread(found.status, block, i))


def _unread(status: int, block: RecordBlock, i: int) -> str:
    length, linktype = int(block.wirelen[i]), int(block.linktype[i])
    what = "no IP" if status == NON_IP else "unreadable headers"
    return f"{what}, link type {linktype}, length {length}"


def _in_tunnels(path: Path) -> str:
    """For instance `vlan 100, geneve, vxlan vni:7: `."""
    words = [f"vlan {number}" for number in path.vlans]
    numbered = "vxlan" if path.vxlan >= 0 else "geneve"
    for name in path.tunnels:
        words.append(f"{name} {path.scope}" if name == numbered else name)
        numbered = "" if name == numbered else numbered
    return ", ".join(words) + ": " if words else ""


def _address(ip: Ip, value: int) -> str:
    return str(ipaddress.IPv4Address(value) if ip.version == 4 else ipaddress.IPv6Address(value))


def _ends(ip: Ip, ports: tuple[int, int] | None) -> str:
    source, destination = _address(ip, ip.src), _address(ip, ip.dst)
    if ports:
        return f"{source}.{ports[0]} > {destination}.{ports[1]}"
    return f"{source} > {destination}"


def _ports(frame: bytes, ip: Ip) -> tuple[int, int] | None:
    if ip.offset or ip.proto not in {TCP, UDP, SCTP} or ip.stop - ip.body < 4:
        return None
    source, destination = struct.unpack_from(">HH", frame, ip.body)
    return source, destination


def ip_line(frame: bytes, ip: Ip) -> str:
    """The innermost packet, without what is around it."""
    head = f"{'IP' if ip.version == 4 else 'IP6'} {_ends(ip, _ports(frame, ip))}: "
    length = max(0, ip.end - ip.body)
    if ip.offset:
        return f"{head}{_protocol(ip.proto)} fragment, offset {ip.offset * 8}, length {length}"
    words = WORDS.get(ip.proto)
    return head + (words(frame, ip) if words else f"{_protocol(ip.proto)}, length {length}")


def _protocol(proto: int) -> str:
    names = {TCP: "TCP", UDP: "UDP", SCTP: "sctp", ICMP: "ICMP", ICMP6: "ICMP6"}
    return names.get(proto) or PROTOCOLS.get(proto, f"ip-proto-{proto}")


def _tcp(frame: bytes, ip: Ip) -> str:
    row = tcp(frame, ip)
    if row["traits"] & NO_FLAGS:
        return "Flags [unknown: header cut or malformed]"
    flags, payload = row["flags"], row["payload"]
    letters = "".join(letter for bit, letter in enumerate(FLAG_LETTERS) if flags >> bit & 1)
    words = [f"Flags [{letters or 'none'}]"]
    # tcpdump leaves the number out where it says nothing: an ACK without data
    if payload:
        words.append(f"seq {row['seq']}:{(row['seq'] + payload) % 2**32}")
    elif flags & 0x07:
        words.append(f"seq {row['seq']}")
    if flags & 0x10:
        words.append(f"ack {row['ack']}")
    if ip.stop - ip.body >= 16:
        words.append(f"win {row['window']}")
    if flags & 0x20 and ip.stop - ip.body >= Tcp.size:
        words.append(f"urg {cut(Tcp, frame, ip.body, ip.stop).urp}")
    return ", ".join([*words, f"length {payload}"])


def _udp(frame: bytes, ip: Ip) -> str:
    header = whole(Udp, frame, ip.body, ip.stop)
    return f"UDP, length {udp_payload(ip, header.ulen)}" if header else "[|udp]"


def _icmp(frame: bytes, ip: Ip) -> str:
    name = "ICMP" if ip.proto == ICMP else "ICMP6,"
    length = max(0, ip.end - ip.body)
    if ip.stop - ip.body < 4:
        return f"{name} [|icmp], length {length}"
    header = cut(Icmp, frame, ip.body, ip.stop)
    keys = (ip.proto, header.type, header.code), (ip.proto, header.type)
    error = next((ICMP_ERRORS[key] for key in keys if key in ICMP_ERRORS), None)
    if error is not None:
        return f"{name} {_about(error, header.code, frame, ip)}, length {length}"
    words = ICMP_NAMES.get(keys[1], f"type-#{header.type}" if ip.proto == ICMP else f"type-{header.type}")
    if words.startswith("echo") and ip.stop - ip.body >= 8:
        words += ", id {}, seq {}".format(*struct.unpack_from(">HH", frame, ip.body + 4))
    return f"{name} {words}, length {length}"


def _about(words: str, code: int, frame: bytes, ip: Ip) -> str:
    """An error's words with what it says of the packet that it quotes."""
    quoted = quoted_ip(frame, ip)
    if quoted is None:
        return words.format(dst="?", port="port ?", proto="protocol ?", code=code)
    ends = _ports(frame, quoted)
    kind = {TCP: "tcp port", UDP: "udp port", SCTP: "sctp port"}.get(quoted.proto, "port")
    return words.format(
        dst=_address(quoted, quoted.dst),
        port=f"{kind} {ends[1]}" if ends else f"protocol {quoted.proto} port",
        proto=f"protocol {quoted.proto}",
        code=code,
    )


#: protocol -> its words, of those that have more to say than their length
WORDS = {ICMP: _icmp, TCP: _tcp, UDP: _udp, ICMP6: _icmp}
