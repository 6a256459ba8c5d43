"""The alert about a story, written as each source writes it, and read back as a user's file would be."""

from __future__ import annotations

import ipaddress
import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backscatter.finding.model import End, Finding
from backscatter.finding.recognise import read_findings
from backscatter.finding.unsaid import Unsaid

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58}


@dataclass(frozen=True, slots=True)
class Alerted:
    """What every source knows: `src` and `dst` of the packet, `local` and `remote` of the story, the time in ns."""

    proto: str
    src: End
    dst: End
    local: End
    remote: End
    time: int

    def moment(self, pattern: str) -> str:
        """The time in a source's own form."""
        return datetime.fromtimestamp(self.time // 10**9, UTC).replace(microsecond=self.time % 10**9 // 1000).strftime(
            pattern
        )  # fmt: skip

    @property
    def ip_version(self) -> int:
        """4 or 6."""
        return 6 if ":" in str(self.local.ip) else 4


def _ports(src: End, dst: End, names: tuple[str, str]) -> dict[str, int]:
    """The two ports under a source's names, those that are known."""
    return {name: end.port for name, end in zip(names, (src, dst), strict=True) if end.port is not None}


def _eve(alert: Alerted) -> dict[str, object]:
    return {
        "timestamp": alert.moment("%Y-%m-%dT%H:%M:%S.%f+0000"),
        "flow_id": 1234567,
        "event_type": "alert",
        "src_ip": alert.src.ip,
        "dest_ip": alert.dst.ip,
        **_ports(alert.src, alert.dst, ("src_port", "dest_port")),
        "proto": {"icmp": "ICMP", "icmp6": "IPv6-ICMP"}.get(alert.proto, alert.proto.upper()),
        "alert": {"action": "allowed", "gid": 1, "signature_id": 2000345, "rev": 3, "signature": "Known controller",
                  "category": "", "severity": 1},
    }  # fmt: skip


def eve(alert: Alerted) -> str:
    """Suricata's eve.json, between records of other kinds."""
    return "\n".join(json.dumps(one) for one in ({"event_type": "stats", "stats": {}}, _eve(alert))) + "\n"


def eve_with_flow(alert: Alerted) -> str:
    """The same with the start of Suricata's own flow, twenty seconds before."""
    began = Alerted(alert.proto, alert.src, alert.dst, alert.local, alert.remote, alert.time - 20 * 10**9)
    flow = {"pkts_toserver": 1, "pkts_toclient": 0, "start": began.moment("%Y-%m-%dT%H:%M:%S.%f+0000")}
    return json.dumps(_eve(alert) | {"flow": flow})


def network_firewall(alert: Alerted) -> str:
    """AWS Network Firewall's wrapper of it."""
    wrapper = {"firewall_name": "fw", "availability_zone": "a", "event_timestamp": str(alert.time // 10**9)}
    return json.dumps(wrapper | {"event": _eve(alert)})


def _sides(alert: Alerted) -> dict[str, object]:
    family = f"ipAddressV{alert.ip_version}"
    return {
        "localIpDetails": {family: alert.local.ip},
        "localPortDetails": {"port": alert.local.port or 0},
        "remoteIpDetails": {family: alert.remote.ip},
        "remotePortDetails": {"port": alert.remote.port or 0},
    }


def _guardduty(alert: Alerted) -> dict[str, object]:
    moment = alert.moment("%Y-%m-%dT%H:%M:%SZ")
    connection = {"connectionDirection": "OUTBOUND", "protocol": str(NUMBERS[alert.proto]), "blocked": False}
    return {
        "schemaVersion": "2.0", "accountId": "123456789012", "region": "eu-central-1", "id": "f" * 32,
        "type": "Backdoor:EC2/C&CActivity.B", "title": "Known controller", "severity": 8, "updatedAt": moment,
        "resource": {"resourceType": "Instance", "instanceDetails": {}},
        "service": {
            "eventFirstSeen": moment, "eventLastSeen": moment, "count": 1,
            "action": {
                "actionType": "NETWORK_CONNECTION",
                "networkConnectionAction": connection | _sides(alert),
            },
        },
    }  # fmt: skip


def guardduty(alert: Alerted) -> str:
    """GuardDuty by EventBridge."""
    event = {"version": "0", "id": "e", "detail-type": "GuardDuty Finding", "source": "aws.guardduty"}
    return json.dumps(event | {"detail": _guardduty(alert)})


def guardduty_export(alert: Alerted) -> str:
    """GuardDuty's export, with names as its command line writes them."""
    return json.dumps(_pascal(_guardduty(alert)))


def _pascal(value: object) -> object:
    if isinstance(value, dict):
        return {name[:1].upper() + name[1:]: _pascal(inner) for name, inner in value.items()}
    return value


def security_hub(alert: Alerted) -> str:
    """Security Hub's ASFF, in whose product fields GuardDuty's tuple hides."""
    moment = alert.moment("%Y-%m-%dT%H:%M:%S.000Z")
    path = "aws/guardduty/service/action/networkConnectionAction/"
    told = {f"{path}{name}/{field}": str(text) for name, side in _sides(alert).items() for field, text in side.items()}  # type: ignore[attr-defined]
    told |= {f"{path}protocol": str(NUMBERS[alert.proto])}
    told |= {"aws/guardduty/service/action/actionType": "NETWORK_CONNECTION"}
    finding = {
        "SchemaVersion": "2018-10-08", "Id": "arn:aws:guardduty:x", "AwsAccountId": "123456789012",
        "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty", "Types": ["TTPs/Command and Control"],
        "Title": "Known controller", "Severity": {"Label": "HIGH"}, "CreatedAt": moment, "UpdatedAt": moment,
        "FirstObservedAt": moment, "LastObservedAt": moment, "ProductFields": told,
    }  # fmt: skip
    return json.dumps({"detail-type": "Security Hub Findings - Imported", "source": "aws.securityhub",
                       "detail": {"findings": [finding]}})  # fmt: skip


def sguil(alert: Alerted) -> str:
    """Sguil's text of an event, without the packet's numbers, as Suricata's agent leaves them."""
    ports = _ports(alert.src, alert.dst, ("sport", "dport"))
    told = f" sport={ports['sport']} -> dport={ports['dport']}" if len(ports) == 2 else ""
    return (
        f"Count:1 Event#1.204541 {alert.moment('%Y-%m-%d %H:%M:%S')}\nKnown controller\n"
        f"{alert.src.ip} -> {alert.dst.ip}\n"
        f"IPVer={alert.ip_version} hlen=5 tos=0 dlen=40 ID=0 flags=0 offset=0 ttl=0 chksum=0\n"
        f"Protocol: {NUMBERS[alert.proto]}{told}\n\n"
        "Seq=0 Ack=0 Off=5 Res=0 Flags=******** Win=0 urp=0 chksum=0\nPayload:\nNone.\n"
    )


def ocsf(alert: Alerted) -> str:
    """Security Hub's other form, a Detection Finding of OCSF."""
    told = alert.time // 10**6
    sides = [
        {"ip": end.ip} | ({"port": end.port} if end.port is not None else {}) for end in (alert.local, alert.remote)
    ]
    return json.dumps({
        "class_uid": 2004, "class_name": "Detection Finding", "severity": "High", "time": told,
        "finding_info": {"uid": "u-1", "title": "Known controller", "types": ["Backdoor"], "first_seen_time": told,
                         "last_seen_time": told},
        "evidences": [{"connection_info": {"protocol_num": NUMBERS[alert.proto], "direction": "Outbound"},
                       "src_endpoint": sides[0] | {"instance_uid": "i-1"}, "dst_endpoint": sides[1]}],
        "cloud": {"account": {"uid": "123456789012"}, "region": "eu-central-1"},
    })  # fmt: skip


def _snort_end(end: End) -> str:
    return str(end.ip) if end.port is None else f"{end.ip}:{end.port}"


def snort_fast(alert: Alerted) -> str:
    """Snort's alert_fast, whose times have no year."""
    return (
        f"{alert.moment('%m/%d-%H:%M:%S.%f')}  [**] [1:2000345:3] Known controller [**] [Classification: A Network "
        f"Trojan was Detected] [Priority: 1] {{{alert.proto.upper()}}} {_snort_end(alert.src)} -> "
        f"{_snort_end(alert.dst)}\n"
    )


def snort_full(alert: Alerted) -> str:
    """Snort's alert_full."""
    flags = "******** Seq: 0x0  Ack: 0x0  Win: 0x0  TcpLen: 20\n" if alert.proto == "tcp" else ""
    return (
        "[**] [1:2000345:3] Known controller [**]\n[Classification: A Network Trojan was Detected] [Priority: 1]\n"
        f"{alert.moment('%m/%d-%H:%M:%S.%f')} {_snort_end(alert.src)} -> {_snort_end(alert.dst)}\n"
        f"{alert.proto.upper()} TTL:64 TOS:0x0 ID:2644 IpLen:20 DgmLen:40 DF\n{flags}\n"
    )


def snort_csv(alert: Alerted) -> str:
    """Snort 2's alert_csv with its default columns."""
    cells = [
        alert.moment("%m/%d-%H:%M:%S.%f "), "1", "2000345", "3", '"Known controller"', alert.proto.upper(),
        alert.src.ip, alert.src.port, alert.dst.ip, alert.dst.port, "2:0:0:0:0:1", "2:0:0:0:0:2", "0x36", "", "", "",
        "", "", "64", "0", "2644", "40", "20", "", "", "", "",
    ]  # fmt: skip
    return ",".join("" if cell is None else str(cell) for cell in cells) + "\n"


def snort3_json(alert: Alerted) -> str:
    """Snort 3's alert_json with fields that somebody chose."""
    return json.dumps({
        "seconds": alert.time // 10**9, "timestamp": alert.moment("%m/%d-%H:%M:%S.%f"), "proto": alert.proto.upper(),
        "rule": "1:2000345:3", "msg": "Known controller", "priority": 1, "src_addr": alert.src.ip,
        "dst_addr": alert.dst.ip, **_ports(alert.src, alert.dst, ("src_port", "dst_port")),
    })  # fmt: skip


def _notice(alert: Alerted) -> dict[str, object]:
    ports = _ports(alert.src, alert.dst, ("id.orig_p", "id.resp_p"))
    return {
        "ts": alert.time / 10**9, "uid": "C1", "id.orig_h": alert.src.ip, "id.resp_h": alert.dst.ip, **ports,
        "proto": "icmp" if alert.proto == "icmp6" else alert.proto, "note": "Intel::Notice", "msg": "Known controller",
    }  # fmt: skip


def zeek_json(alert: Alerted) -> str:
    """A notice of Zeek in JSON."""
    return json.dumps(_notice(alert))


def zeek_tsv(alert: Alerted) -> str:
    """A notice of Zeek in the log that its header describes."""
    fields = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "note", "msg")
    types = ("time", "string", "addr", "port", "addr", "port", "enum", "enum", "string")
    notice = _notice(alert)
    lines = [
        "#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", "#path\tnotice",
        "\t".join(("#fields", *fields)), "\t".join(("#types", *types)),
        "\t".join(str(notice.get(name, "-")) for name in fields),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def unified2(alert: Alerted) -> bytes:
    """Snort's unified2: one event, without its packet."""
    addresses = [ipaddress.ip_address(str(end.ip)).packed for end in (alert.src, alert.dst)]
    event = struct.pack(">9I", 0, 1, alert.time // 10**9, alert.time % 10**9 // 1000, 2000345, 1, 3, 1, 1)
    event += b"".join(addresses)
    event += struct.pack(">HHBBBB", alert.src.port or 0, alert.dst.port or 0, NUMBERS[alert.proto], 0, 0, 0)
    event += struct.pack(">IHH", 0, 0, 0)
    return struct.pack(">II", 105 if alert.ip_version == 6 else 104, len(event)) + event


#: Every way in which an alert is written.
FORMATS: dict[str, Callable[[Alerted], str | bytes]] = {
    writer.__name__: writer
    for writer in (
        eve, eve_with_flow, network_firewall, guardduty, guardduty_export, security_hub, ocsf, sguil, snort_fast,
        snort_full, snort_csv, snort3_json, zeek_json, zeek_tsv, unified2,
    )
}  # fmt: skip

#: Formats of a time that knew no other addresses.
IPV4_ONLY = frozenset({"snort_fast", "snort_full"})


def finding_of(alert: Alerted, form: str) -> Finding:
    """The alert as a source writes it, read back. The packets that it stands among give the year where it has none."""
    form = "eve" if alert.ip_version == 6 and form in IPV4_ONLY else form
    told = FORMATS[form](alert)
    data = told if isinstance(told, bytes) else told.encode()
    (finding,) = read_findings(data, form, Unsaid(span=(alert.time, alert.time)))
    assert isinstance(finding, Finding), finding
    return finding
