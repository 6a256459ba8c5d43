"""Floods for people and programs: a line of a table, all there is to know of one, and the object of `floods --json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backscatter.flow.record import rfc3339
from backscatter.report.text import entry, moment_text
from backscatter.verdict.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.flood.floods import Estimate, Flood, Floods

SECOND = 10**9

_LEVELS = "▁▂▃▄▅▆▇█"

#: Kinds of answers and doubts in words.
KIND_WORDS = {
    "refused": "SYN+ACKs that our host refused",
    "silent": "SYN+ACKs that nobody answered",
    "closed": "RST+ACKs of a closed port",
    "icmp_error": "ICMP errors about packets that we never sent",
    "icmp_reply": "ICMP replies",
    "udp_answer": "UDP answers",
}
DOUBT_WORDS = {
    "look_back": "too little unbroken capture around them",
    "one_way": "the capture does not show that host in both directions",
    "contact": "that host was in contact with the victim otherwise",
    "own_scan": "that host scanned half-open at the time",
    "loss": "the capture lost packets",
    "reflection": "many remotes answered that one host: an attack on us",
    "reset_with_ack": "refused by RST+ACK, not exactly",
    "asked_elsewhere": "that host asked another one what this one may have answered",
    "synack_scan": "single SYN+ACKs with one ack to many of us: a scan of us",
}
SIGN_WORDS = {
    "corsaro_packets": "25 packets",
    "corsaro_duration": "60 s",
    "corsaro_rate": "30 packets in a minute",
    "corsaro": "all of Corsaro's thresholds at once",
    "scan_ng": "10 hosts of ours answered from at most 2 ports (scan-NG)",
    "juno.c": "ports 1024 and 3072 only, as the flooder juno.c forges them",
    "scapy": "port 20 and sequence number 0, Scapy's defaults",
    "constant_seq": "one sequence number in all forged packets",
    "constant_port": "one source port in all forged packets",
    "seq_below_65536": "sequence numbers of 16 bits",
}


def flood_record(flood: Flood, among: Floods) -> dict[str, Any]:
    """The object of one flood, of JSON's own types only; times are RFC 3339 with nine decimals."""
    signs, estimate = flood.signs, flood.estimate
    return {
        "victim": str(flood.victim),
        "proto": flood.proto,
        "ports": [{"port": port, "answers": answers} for port, answers in flood.ports],
        "ports_total": flood.ports_total,
        "first": rfc3339(flood.first),
        "last": rfc3339(flood.last),
        "seconds": flood.seconds,
        "addresses": flood.addresses,
        "examples": [str(address) for address in flood.examples],
        "conversations": flood.conversations,
        "unproven": flood.unproven,
        "packets": flood.packets,
        "answers": flood.answers,
        "rate": flood.rate,
        "estimate": {
            "packets_per_second": estimate.rate,
            "low": estimate.low,
            "high": estimate.high,
            "addresses": among.in_view,
            "addresses_from": _n_from(among),
        }
        if estimate
        else None,
        "labels": list(signs.labels),
        "tools": list(signs.tools),
        "ttl": None if signs.ttl_low is None else {"low": signs.ttl_low, "high": signs.ttl_high},
        "timeline": {
            "start": rfc3339(among.first),
            "bin_seconds": among.bin_size / SECOND,
            "answers": list(flood.bins),
        },
    }


def _n_from(among: Floods) -> str:
    return "home" if among.from_home else "hit"


def short(number: float) -> str:
    """A number to three digits, as people write large ones: 850, 12.3k, 1.08M."""
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (1000, "k")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.3g}"


def estimate_text(estimate: Estimate | None) -> str:
    """`1.08M/s (130k to 3.89M)`; "" where nothing can be said."""
    return f"{short(estimate.rate)}/s ({short(estimate.low)} to {short(estimate.high)})" if estimate else ""


def ports_text(flood: Flood, most: int = 3) -> str:
    """The victim's ports, most answers first: `80, 443 and 4 more`."""
    named = ", ".join(str(port) for port, _ in flood.ports[:most])
    return named + _and_more(flood.ports_total - min(most, len(flood.ports)))


def sparkline(bins: tuple[int, ...], width: int) -> str:
    """Counts as a line of bars, neighbours put together; nothing is a space, so that one answer shows."""
    step = -(-len(bins) // width)
    sums = [sum(bins[at : at + step]) for at in range(0, len(bins), step)]
    most = max(sums, default=0)
    return "".join(_LEVELS[(count * len(_LEVELS) - 1) // most] if count else " " for count in sums)


def flood_facts(flood: Flood, among: Floods) -> Iterator[tuple[str, str]]:
    """All there is to know of one flood in words: what it is about ("" for the same again), and what is known."""
    if flood.ports:
        ports = ", ".join(f"{port} ({answers} answers)" for port, answers in flood.ports)
        yield "Ports", ports + _and_more(flood.ports_total - len(flood.ports))
    yield "Seen", f"{moment_text(flood.first)} to {moment_text(flood.last)} ({duration(flood.last - flood.first)})"
    named = ", ".join(map(str, flood.examples)) + _and_more(flood.addresses - len(flood.examples))
    yield "Ours", f"{flood.addresses} {'address' if flood.addresses == 1 else 'addresses'} hit: {named}"
    rate = "" if flood.rate is None else f", {short(flood.rate * 60)} answers a minute"
    yield "Answers", f"{flood.answers}, in {flood.packets} packets{rate}"
    for kind, count in flood.conversations.items():
        yield "", f"conversations: {count} of {KIND_WORDS[kind]}"
    yield "Flood", flood_text(flood, among)
    for title, signs in (("Reaches", flood.signs.labels), ("Tool", flood.signs.tools)):
        if signs:
            yield title, "; ".join(SIGN_WORDS[sign] for sign in signs)
    if flood.signs.ttl_low is not None:
        low, high = flood.signs.ttl_low, flood.signs.ttl_high
        yield "TTL", str(low) if low == high else f"{low} to {high}"
    for name, count in flood.unproven.items():
        conversations = "1 conversation" if count == 1 else f"{count} conversations"
        which = "counted above" if among.unproven else "alike but not counted"
        yield "Unproven", f"{conversations}, {which}: {DOUBT_WORDS[name]}"


def flood_detail(flood: Flood, among: Floods) -> list[str]:
    """All there is to know of one flood, as lines of plain text."""
    lines = [f"{flood.victim} was flooded ({flood.proto})", ""]
    for title, text in flood_facts(flood, among):
        lines += entry(title, text)
    lines += entry("Map", sparkline(flood.bins, len(flood.bins)))
    return [*lines, *entry("", f"from {moment_text(among.first)} on, {duration(among.bin_size)} a column")]


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def flood_text(flood: Flood, among: Floods) -> str:
    """How large the flood was at the victim, and on what that stands."""
    if flood.estimate is None:
        return "its size cannot be told" + (" (IPv6)" if flood.victim.version == 6 else "")
    source = "the networks named as ours" if among.from_home else "those that any flood hit"
    addresses = "1 address" if among.in_view == 1 else f"{among.in_view} addresses"
    return (
        f"about {short(flood.estimate.rate)} packets/s, 95 % interval {short(flood.estimate.low)} to "
        f"{short(flood.estimate.high)}, if sources were random and {addresses} of ours were in view ({source})"
    )
