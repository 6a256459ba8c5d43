"""Which flows and packets a person asked for: the filters of the contract, on columns."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import HAS_PORTS, OK
from backscatter.decode.icmp import COUNTERPARTS
from backscatter.errors import RequestError
from backscatter.flow.address import Address
from backscatter.flow.community import community_id, community_ids
from backscatter.flow.protocol import proto_name, proto_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.runs import Bools
    from backscatter.flow.table import Flows

_64 = (1 << 64) - 1

_TUPLE = ("version", "proto", "src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to keep. Values of one field are alternatives, fields must all agree, an empty field agrees to everything.

    hosts         addresses or networks; either end of the conversation lies in one
    ports         either end has one; ICMP has none
    protos        names or numbers as `parse_proto` gives them
    since, until  ns since 1970-01-01 UTC; what overlaps is kept, both ends included; None for no limit
    scopes        names of scopes, "" for packets in none
    communities   community ids
    """

    hosts: tuple[IPv4Network | IPv6Network, ...] = ()
    ports: tuple[int, ...] = ()
    protos: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    scopes: tuple[str, ...] = ()
    communities: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept."""
        return all(getattr(self, field.name) in ((), None) for field in fields(self))

    def flows(self, flows: Flows) -> Bools:
        """Mask of the flows to keep."""
        told = flows.columns((*_TUPLE, "has_ports", "scope", "start", "end"))
        kept = self._tuples(told, told["has_ports"] != 0, flows.scopes)
        if self.since is not None:
            kept &= told["end"] >= self.since
        if self.until is not None:
            kept &= told["start"] <= self.until
        if self.communities:
            index = np.flatnonzero(kept)
            kept[index] = _among(community_ids(flows.select(index)), self.communities)
        return kept

    def packets(self, packets: Packets, scopes: Sequence[str]) -> Bools:
        """Mask of the packets to keep; `scopes` are the names that the column `scope` refers to.

        Packets that are no IP or could not be read pass only a filter that asks for nothing but times.
        """
        has_ports = (packets["traits"] & HAS_PORTS) != 0
        kept = self._tuples(packets.columns, has_ports, scopes)
        if self.hosts or self.ports or self.protos or self.scopes or self.communities:
            kept &= packets["status"] == OK
        if self.since is not None:
            kept &= packets["time"] >= self.since
        if self.until is not None:
            kept &= packets["time"] <= self.until
        if self.communities:
            index = np.flatnonzero(kept)
            table = np.rec.fromarrays(  # type: ignore[call-overload]
                [*(packets[name][index] for name in _TUPLE), has_ports[index]], names=(*_TUPLE, "has_ports")
            )
            tuples, which = np.unique(table, return_inverse=True)
            kept[index] = _among(map(_community, tuples.tolist()), self.communities)[which]
        return kept

    def _tuples(self, columns: Mapping[str, NDArray[Any]], has_ports: Bools, scopes: Sequence[str]) -> Bools:
        """Mask by everything but time and community id."""
        kept = np.ones(len(has_ports), np.bool_)
        if self.hosts:
            kept &= np.logical_or.reduce(
                [_inside(columns, side, network) for network in self.hosts for side in ("src", "dst")]
            )
        if self.ports:
            kept &= np.isin(columns["src_port"], self.ports) | np.isin(columns["dst_port"], self.ports)
            kept &= has_ports & ~np.isin(columns["proto"], tuple(COUNTERPARTS))
        if self.protos:
            kept &= np.isin(columns["proto"], _numbers(self.protos))
        if self.scopes:
            wanted = [number for number, name in enumerate(scopes) if name in self.scopes]
            kept &= np.isin(columns["scope"], wanted)
        return kept


def _inside(columns: Mapping[str, NDArray[Any]], side: str, network: IPv4Network | IPv6Network) -> Bools:
    """Mask of the rows whose address of one side lies in a network."""
    mask, base = int(network.netmask), int(network.network_address)
    hi: NDArray[np.uint64] = columns[f"{side}_hi"]
    lo: NDArray[np.uint64] = columns[f"{side}_lo"]
    inside: Bools = columns["version"] == network.version
    inside &= (hi & np.uint64(mask >> 64)) == np.uint64(base >> 64)
    inside &= (lo & np.uint64(mask & _64)) == np.uint64(base & _64)
    return inside


def _numbers(protos: Iterable[str]) -> list[int]:
    return [number for number in map(proto_number, protos) if number is not None]


def _community(row: tuple[int, ...]) -> str | None:
    version, proto, src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, has_ports = row
    ports = (src_port, dst_port) if has_ports else (None, None)
    return community_id(proto, Address(version, src_hi, src_lo), Address(version, dst_hi, dst_lo), *ports)


def _among(ids: Iterable[str | None], wanted: Sequence[str]) -> Bools:
    return np.array([one in wanted for one in ids], np.bool_)


def parse_proto(text: str) -> str:
    """A protocol as the contract prints it: tcp, udp, icmp, icmp6, sctp, else its number. Raises RequestError."""
    number = proto_number(text)
    if number is None:
        raise RequestError(f"{text!r} is no protocol: tcp, udp, icmp, icmp6, sctp or a number up to 255")
    return proto_name(number)


_EPOCH_SECONDS = re.compile(r"(?P<seconds>\d{1,11})(?:\.(?P<fraction>\d{1,9}))?", re.ASCII)
_RFC3339 = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[Tt ](?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)


def parse_time(text: str) -> int:
    """A time in ns since 1970-01-01 UTC, from RFC 3339 or epoch seconds, each with up to nine decimals.

    Raises RequestError where the text is neither, or has no zone.
    """
    epoch = _EPOCH_SECONDS.fullmatch(text)
    if epoch:
        return _nanoseconds(int(epoch["seconds"]), epoch["fraction"])
    stamp = _RFC3339.fullmatch(text)
    try:
        if stamp:
            zone = "+00:00" if stamp["zone"] in "Zz" else stamp["zone"]
            moment = datetime.fromisoformat(f"{stamp['day']}T{stamp['clock']}{zone}")
            return _nanoseconds(int(moment.timestamp()), stamp["fraction"])
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{text!r} is no time: {error}") from error
    raise RequestError(f"{text!r} is no time such as 2007-03-20T18:04:19.731091Z or 1174413859.731091")


def _nanoseconds(seconds: int, fraction: str | None) -> int:
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))
