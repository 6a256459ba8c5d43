"""Translated addresses, as EC2 knows them: which Elastic IP is which private address, asked for when an alert comes.

An IDS at the edge names the public address, one in the VPC and every capture there the private one. GuardDuty names
both itself and is not asked for. What EC2 said is kept for some minutes: alerts come in crowds.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backscatter.finding.model import Finding

MINUTE = 60 * 10**9

#: How long an answer counts (ns), and how many are kept.
FRESH, MOST = 5 * MINUTE, 10_000

#: A request takes at most 200 values; an attack sequence may name more, and the rest goes by its own names.
MOST_ASKED = 100

#: Pages of one answer; a few addresses have a few interfaces.
_PAGES = 5

#: EC2's filters by which an interface is found, for either side of a translation.
_FILTERS = ("addresses.private-ip-address", "addresses.association.public-ip")

Pair = tuple[str, str]


class _Known(NamedTuple):
    """What EC2 said of an address at a time (ns)."""

    time: int
    pairs: tuple[Pair, ...]


class Addresses:
    """The pairs of public and private addresses of this account and region.

    ec2  makes the client; called when the first address is asked for
    """

    def __init__(self, ec2: Callable[[], Any]) -> None:
        self._make = ec2
        self._ec2: Any = None
        self._known: dict[str, _Known] = {}
        self._failed_at = 0
        self._failure = ""

    def named(self, finding: Finding, now: int) -> Finding:
        """The finding with the aliases that EC2 knows for its addresses; as it is where it brings its own.

        Where EC2 cannot be asked, the finding says so in its notes: without its other address, a host may not be found
        in captures, and the verdict is undetermined then.
        """
        if finding.aliases:
            return finding
        asked = dict.fromkeys(end.ip for one in finding.tuples for end in (one.a, one.b) if end.ip and _is_four(end.ip))
        pairs = self.pairs(list(asked)[:MOST_ASKED], now)
        if pairs is None:
            note = f"its translated addresses could not be looked up: {self._failure}"
            return replace(finding, notes=(*finding.notes, note))
        return replace(finding, aliases=pairs) if pairs else finding

    def pairs(self, addresses: Iterable[str], now: int) -> tuple[Pair, ...] | None:
        """(public, private) of each address that is either; None where EC2 could not be asked, now or just before.

        A private address that several interfaces have, in different VPCs, names no one of them.
        """
        wanted = list(dict.fromkeys(addresses))
        if len(self._known) > MOST:
            self._known.clear()
        unknown = [one for one in wanted if one not in self._known or now - self._known[one].time > FRESH]
        if unknown:
            if self._failure and now - self._failed_at <= FRESH:
                return None
            try:
                found = self._asked(unknown)
            except (ClientError, BotoCoreError) as error:
                self._failed_at, self._failure = now, str(error)[:200]
                return None
            self._failure = ""
            self._known |= {one: _Known(now, found.get(one, ())) for one in unknown}
        return tuple(dict.fromkeys(pair for one in wanted for pair in self._known[one].pairs))

    def _asked(self, addresses: list[str]) -> dict[str, tuple[Pair, ...]]:
        """What EC2 says of addresses that nobody asked for lately."""
        interfaces = {}
        for name in _FILTERS:
            for interface in self._interfaces(name, addresses):
                interfaces[str(interface.get("NetworkInterfaceId"))] = interface
        wanted = set(addresses)
        owners: dict[str, set[str]] = {}
        pairs: dict[str, list[Pair]] = {}
        for number, interface in interfaces.items():
            for one in interface.get("PrivateIpAddresses") or ():
                private = str(one.get("PrivateIpAddress"))
                public = (one.get("Association") or {}).get("PublicIp")
                owners.setdefault(private, set()).add(number)
                for address in {private, public} & wanted if public else ():
                    pairs.setdefault(address, []).append((str(public), private))
        # Which of several hosts a private address means, EC2 cannot tell; a public one means one host.
        return {address: tuple(some) for address, some in pairs.items() if len(owners.get(address, ())) <= 1}

    def _interfaces(self, name: str, addresses: list[str]) -> Iterator[dict[str, Any]]:
        if self._ec2 is None:
            self._ec2 = self._make()
        request: dict[str, Any] = {"Filters": [{"Name": name, "Values": addresses}]}
        for _ in range(_PAGES):
            response = self._ec2.describe_network_interfaces(**request)
            yield from response["NetworkInterfaces"]
            if not response.get("NextToken"):
                return
            request["NextToken"] = response["NextToken"]


def _is_four(address: str) -> bool:
    """Whether it is IPv4: IPv6 is not translated in a VPC."""
    try:
        return ipaddress.ip_address(address).version == 4
    except ValueError:
        return False
