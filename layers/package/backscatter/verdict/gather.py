"""From the flows between two hosts to the conversations that a finding is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscatter.flow.conversation import OTHER_IDLE, TCP_IDLE
from backscatter.verdict.conversation import ICMP, ICMP6, TCP, Conversation, Quote, SeenFlow, ends_at, seen_from

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from backscatter.flow.address import Address
    from backscatter.flow.table import FlowTable
    from backscatter.flow.window import Window

#: Flows of the tuple that ended up to this long before a conversation still belong to its story (ns).
EARLIER = 15 * 60 * 10**9

#: Protocol, local port, remote port; for ICMP its type and the counterpart's, the lower first.
Key = tuple[int, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conversations of two hosts a finding means; None stands for any."""

    proto: int | None = None
    local_port: int | None = None
    remote_port: int | None = None

    @property
    def any_port(self) -> bool:
        """Whether it names no port at all."""
        return self.local_port is None and self.remote_port is None

    @property
    def icmp(self) -> bool:
        """Whether the alert was about an ICMP packet."""
        return self.proto in (ICMP, ICMP6)

    def has(self, key: Key) -> bool:
        """Whether a conversation of this tuple is meant."""
        proto, local_port, remote_port = key
        if proto in (ICMP, ICMP6):
            return self.icmp or (self.proto is None and self.any_port)
        return (
            self.proto in (None, proto)
            and self.local_port in (None, local_port)
            and self.remote_port in (None, remote_port)
        )


@dataclass(frozen=True, slots=True)
class Lead:
    """A packet to a third host that an ICMP error between the two hosts quotes: the conversation it speaks of."""

    remote: Address
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Gathered:
    """Conversations ordered by start, and leads to conversations with other hosts."""

    conversations: tuple[Conversation, ...]
    leads: tuple[Lead, ...]


def gather(
    table: FlowTable, local: Collection[Address], remote: Collection[Address], wanted: Wanted, window: Window
) -> Gathered:
    """The conversations of two hosts that a finding means and that reach into its window.

    `table` holds the flows between them, and the ICMP errors that quote their packets, from EARLIER before the window
    on, and what may go on with them behind it. An ICMP error is filed with the conversation that it quotes, seen or
    not: that is what it speaks of.
    """
    members: dict[Key, list[SeenFlow]] = {}
    errors: dict[Key, list[tuple[SeenFlow, Quote]]] = {}
    leads: dict[Lead, None] = {}
    to_us = ends_at(table.rows, "dst", local).tolist()
    for flow, key in _keyed(table, local):
        if not (flow.is_error and flow.quotes):
            members.setdefault(key, []).append(flow)
            continue
        for quote in flow.quotes:
            if quote.sent_by_us and not to_us[flow.row]:
                continue  # told to somebody else: whatever it is, it is no answer to a packet of ours
            ports = (quote.local_port, quote.remote_port) if quote.has_ports else (None, None)
            if quote.remote in remote:
                errors.setdefault(_key(quote.proto, *ports), []).append((flow, quote))
            elif wanted.has((flow.proto, None, None)) and _in(flow, window):
                leads[Lead(quote.remote, Wanted(quote.proto, *ports))] = None
    found = []
    for key in members.keys() | errors.keys():
        now = [flow for flow in members.get(key, ()) if _in(flow, window)]
        about = list(dict.fromkeys(error for error, _ in errors.get(key, ()) if error.start <= window.end))
        in_time = any(_in(error, window) for error in about)
        if not (now or in_time) or not (wanted.has(key) or (wanted.icmp and in_time)):
            continue
        start = min(flow.start for flow in now or about)
        now += _going_on(now, members.get(key, ()), window)
        earlier = [flow for flow in members.get(key, ()) if start - EARLIER <= flow.end < start and flow not in now]
        is_icmp = key[0] in (ICMP, ICMP6)
        found.append(
            Conversation(
                proto=key[0],
                local=min(local),
                remote=min(remote),
                local_port=None if is_icmp else key[1],
                remote_port=None if is_icmp else key[2],
                flows=tuple(sorted(now, key=_by_time)),
                earlier=tuple(sorted(earlier, key=_by_time)),
                errors=tuple(sorted(about, key=_by_time)),
                quotes=tuple(quote for error, quote in errors.get(key, ()) if error.start <= window.end),
            )
        )
    return Gathered(tuple(sorted(found, key=lambda one: (one.start, one.rows))), tuple(leads))


def _keyed(table: FlowTable, local: Collection[Address]) -> list[tuple[SeenFlow, Key]]:
    """Every flow of the table from the local end, with the key of its conversation."""
    rows = table.rows
    flows = seen_from(table, local, np.arange(len(table)))
    keyed: list[tuple[SeenFlow, Key]] = []
    known = zip(rows["src_port"].tolist(), rows["dst_port"].tolist(), rows["has_ports"].tolist(), strict=True)
    for flow, (src, dst, has_ports) in zip(flows, known, strict=True):
        ports = (src, dst) if flow.local_began else (dst, src)
        keyed.append((flow, _key(flow.proto, *(ports if has_ports else (None, None)))))
    return keyed


def _key(proto: int, local_port: int | None, remote_port: int | None) -> Key:
    """The key of a tuple, seen or quoted."""
    if proto in (ICMP, ICMP6) and local_port is not None and remote_port is not None:
        return proto, min(local_port, remote_port), max(local_port, remote_port)
    return proto, local_port, remote_port


def _in(flow: SeenFlow, window: Window) -> bool:
    return flow.start <= window.end and flow.end >= window.start


def _going_on(now: list[SeenFlow], members: Iterable[SeenFlow], window: Window) -> list[SeenFlow]:
    """The flows behind the window that go on with those in it: where a capture ended, it cut them apart."""
    more: list[SeenFlow] = []
    if not now:
        return more
    reached = max(flow.end for flow in now)
    for flow in sorted((flow for flow in members if flow.start > window.end), key=_by_time):
        if flow.start - reached > (TCP_IDLE if flow.proto == TCP else OTHER_IDLE):
            break
        more.append(flow)
        reached = max(reached, flow.end)
    return more


def _by_time(flow: SeenFlow) -> tuple[int, int]:
    return flow.start, flow.row
