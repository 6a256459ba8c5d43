"""A finding: what an alert says about which conversation, in one shape for every source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class End:
    """One end of a conversation as the alert names it; None where it says nothing."""

    ip: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Tuple:
    """The conversation that an alert is about.

    proto     "tcp", "udp", "icmp", "icmp6", another IP protocol's number as text, or None
    a, b      its ends: source and destination of the packet, or local and remote where the source knows
    resource  "a" or "b" where the source says which end is its own resource; else None
    """

    proto: str | None
    a: End
    b: End
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class AlertedPacket:
    """What the alert itself shows of the packet that raised it. None where it shows nothing."""

    flags: int | None = None  # TCP flags as on the wire
    seq: int | None = None
    ack: int | None = None
    window: int | None = None
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One alert.

    id          unique within its source; made from the content where the source gives none
    source      guardduty, security_hub, suricata, network_firewall, snort, zeek, sguil
    type        the source's own type or signature id, as text
    title       one line for a person
    severity    as the source gives it: number or text, None where it gives none
    first_seen, last_seen  ns since 1970-01-01 UTC; None where the alert has no time
    updated     text that changes when the source updates the finding; (id, updated) told twice is one finding
    count       how many events stand behind it
    sample      the source marks it as a made-up sample
    tuples      the conversations it is about; empty for none
    is_network  False where its kind is about no network conversation: not_applicable
    vlan        VLAN tags that select the scope, outermost first; empty for none
    packet      what the alert shows of its packet; None for nothing
    aliases     (public, private) addresses that the finding itself pairs
    community_id  of the conversation, as the source tells it; "" where it does not
    capture_file, pcap_cnt  the capture that the source wrote or read, and which packet of it the alert's is, from 1
    tunnel      the ends of the tunnel that the alert's packet came in; None where the source tells of none
    account, region  of AWS; "" elsewhere
    origin      "file:line" or the event's id: where a person finds the original
    original    the alert as it came, text, cut where it is very long
    notes       what of the alert could not be used, though the finding itself could be read
    """

    id: str
    source: str
    type: str
    title: str
    severity: float | int | str | None
    first_seen: int | None
    last_seen: int | None
    updated: str = ""
    count: int = 1
    sample: bool = False
    tuples: tuple[Tuple, ...] = ()
    is_network: bool = True
    vlan: tuple[int, ...] = ()
    packet: AlertedPacket | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    community_id: str = ""
    capture_file: str = ""
    pcap_cnt: int | None = None
    tunnel: Tuple | None = None
    account: str = ""
    region: str = ""
    origin: str = ""
    original: str = ""
    notes: tuple[str, ...] = ()
