r"""Snort's alert_fast and alert_full, and Suricata's fast.log, which looks like the former.

    03/20-18:04:19.731091  [**] [1:2000:3] Bot [**] [Classification: Trojan] [Priority: 1] {TCP} 10.0.0.5:1024 -> 192.0.2.1:6667

    [**] [1:2000:3] Bot [**]
    [Classification: Trojan] [Priority: 1]
    03/20-18:04:19.731091 10.0.0.5:1024 -> 192.0.2.1:6667
    TCP TTL:64 TOS:0x0 ID:2644 IpLen:20 DgmLen:40 DF
    *****R** Seq: 0xAEE1FCBD  Ack: 0x0  Win: 0x0  TcpLen: 20

The month comes first, and a year only with `snort -y` (two digits) and from Suricata (four). With `snort -e` the time
stands before the Ethernet addresses, and the IP ones on the line below.
Source: src/log.c and src/log_text.c of Snort 2.9, src/log/log_text.cc of Snort 3, src/alert-fastlog.c of Suricata.
"""  # noqa: E501

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backscatter.finding.fields import normal_address
from backscatter.finding.snort import alert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.finding.fields import Place
    from backscatter.finding.model import Finding

_TIME = r"[0-9]{2}/[0-9]{2}(?:/[0-9]{2,4})?-[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"

#: How a line of alert_fast and of CSV begins, in an expression of many lines.
TIME_START = rf"^{_TIME}[ \t]*(?:,|\S{{0,20}}[ \t]*\[\*\*\])"
#: The first line of an alert in alert_fast; between the time and the message Suricata tells what it dropped.
FAST = re.compile(rf"(?P<time>{_TIME})[ \t]+(?:\[[A-Za-z]{{1,12}}\][ \t]*)?\[\*\*\]")
#: The first line of an alert in alert_full.
FULL = re.compile(r"\[\*\*\][ \t]*\[[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}\]")

_RULE = re.compile(
    r"\[\*\*\][ \t]*\[(?P<gid>[0-9]{1,10}):(?P<sid>[0-9]{1,10}):(?P<rev>[0-9]{1,10})\][ \t]*(?P<msg>.*?)[ \t]*\[\*\*\]"
)
_PRIORITY = re.compile(r"\[Priority: (?P<priority>[0-9]{1,9})\]")
_FAST_ENDS = re.compile(r"\{(?P<proto>[^{}]{1,20})\}[ \t]+(?P<src>\S{1,80})[ \t]+->[ \t]+(?P<dst>\S{1,80})[ \t]*")
#: A packet without addresses: Suricata shows its bytes instead.
_RAW = re.compile(r"\{(?P<proto>[^{}]{1,20})\}[ \t]+\[\*\*\] \[Raw pkt: ")

_FULL_TIME = re.compile(rf"^[ \t]*(?P<time>{_TIME})[ \t]", re.MULTILINE)
_FULL_ENDS = re.compile(
    r"^(?:.*[ \t])?(?P<src>[0-9A-Fa-f.:%]{2,80})[ \t]+->[ \t]+(?P<dst>[0-9A-Fa-f.:%]{2,80})(?![ \t]+type:)(?:[ \t]|$)",
    re.MULTILINE,
)
_FULL_PROTO = re.compile(r"(?:^|[ \t])(?P<proto>[A-Za-z0-9:-]{1,20}) TTL:(?P<ttl>[0-9]{1,3}) TOS:", re.MULTILINE)
_FULL_TCP = re.compile(
    r"^[ \t]*(?P<flags>[12CE0UAPRSF*]{8}) Seq: 0x(?P<seq>[0-9A-Fa-f]{1,8})[ \t]+Ack: 0x(?P<ack>[0-9A-Fa-f]{1,8})"
    r"[ \t]+Win: 0x(?P<win>[0-9A-Fa-f]{1,4})\b",
    re.MULTILINE,
)
#: What an ICMP error quotes is another packet's.
_QUOTED = "** ORIGINAL DATAGRAM DUMP"
#: Characters of an alert before its packet's dump, if it has one.
_HEAD = 8192


def read_fast(text: str, place: Place) -> Iterator[Finding]:
    """The finding of one line of alert_fast. Raises FindingError naming what is missing."""
    begin, rule = FAST.match(text), _RULE.search(text)
    if begin is None or rule is None:
        raise place.error("alert_fast: the line ends before its message does")
    rest = text[rule.end() :]
    ends = _FAST_ENDS.search(rest)
    raw = _RAW.search(rest)
    if raw is None and (ends is None or ends.end() < len(rest)):
        raise place.error("alert_fast: a line without `{PROTOCOL} A -> B` at its end")
    fields = {"timestamp": begin["time"], **_told(rule, rest)}
    if ends is not None:
        fields |= {"proto": ends["proto"], **_ends(ends, ends["proto"], place)}
    yield alert(fields, place, "suricata" if _is_suricata(begin["time"]) else "snort")


def read_full(text: str, place: Place) -> Iterator[Finding]:
    """The finding of one alert of alert_full, its first line first. Raises FindingError naming what is missing."""
    head = text[:_HEAD].partition(_QUOTED)[0].replace("\r", "")
    rule = _RULE.match(head)
    if rule is None:
        raise place.error("alert_full: the alert ends before its message does")
    body = head[rule.end() :]
    time, ends = _FULL_TIME.search(body), _FULL_ENDS.search(body)
    if time is None or ends is None:
        raise place.error(f"alert_full: an alert without its {'time' if time is None else 'addresses'}: it was cut")
    proto, tcp = _FULL_PROTO.search(body), _FULL_TCP.search(body)
    named = proto["proto"] if proto else ""
    fields = {"timestamp": time["time"], **_told(rule, body[: time.start()]), **_ends(ends, named, place)}
    if proto:
        fields |= {"proto": proto["proto"], "ttl": proto["ttl"]}
    if tcp:
        numbers = {f"tcp_{name}": int(tcp[name], 16) for name in ("seq", "ack", "win")}
        fields |= {"tcp_flags": tcp["flags"], **numbers}
    yield alert(fields, place)


def _told(rule: re.Match[str], rest: str) -> dict[str, object]:
    priority = _PRIORITY.search(rest)
    told: dict[str, object] = {name: rule[name] for name in ("gid", "sid", "rev")}
    message = rule["msg"]
    # Snort 3 quotes it.
    told["msg"] = message[1:-1] if len(message) > 1 and message[0] == message[-1] == '"' else message
    return told | ({"priority": priority["priority"]} if priority else {})


def _ends(ends: re.Match[str], proto: str, place: Place) -> dict[str, object]:
    told: dict[str, object] = {}
    for side in ("src", "dst"):
        ip, port = _address_and_port(ends[side], place, ports=proto.upper() in ("TCP", "UDP"))
        told |= {f"{side}_addr": ip, f"{side}_port": port}
    return told


def _address_and_port(text: str, place: Place, *, ports: bool) -> tuple[str, str | None]:
    """`A` or `A:port`, whichever it is: fe80::1:80 tells by its protocol only, or by having all its groups."""
    ip, _, port = text.rpartition(":")
    split, plain = (ip, port), (text, None)
    for address, behind in (split, plain) if ports or text.count(":") in (1, 8) else (plain, split):
        try:
            return normal_address(address), behind
        except ValueError:
            continue
    raise place.error(f"{text[:80]!a} is no address, with a port or without")


def _is_suricata(time: str) -> bool:
    """Whether the time has a year of four digits, which Snort never writes."""
    day, _, _ = time.partition("-")
    return len(day.rpartition("/")[2]) == 4
