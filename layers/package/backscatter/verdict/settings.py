"""What a judge must be told: which addresses are ours, and under which other names they go."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.errors import RequestError
from backscatter.flow.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Private (RFC 1918), shared (RFC 6598), link-local (RFC 3927, 4291) and unique-local (RFC 4193) addresses.
DEFAULT_HOME = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fe80::/10",
        "fc00::/7",
    )
)


def parse_home(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks from texts such as `10.0.0.0/8` or one address. Raises RequestError for what is neither."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError as error:
            raise RequestError(f"{text!r} is no address and no network such as 10.0.0.0/8") from error
    return tuple(networks)


def parse_alias(text: str) -> tuple[str, str]:
    """`PUBLIC=PRIVATE` as a pair of addresses. Raises RequestError for anything else."""
    public, separator, private = text.partition("=")
    try:
        pair = str(ipaddress.ip_address(public.strip())), str(ipaddress.ip_address(private.strip()))
    except ValueError as error:
        raise RequestError(f"{text!r} is no pair of addresses such as 198.51.100.7=10.0.0.5") from error
    if not separator:
        raise RequestError(f"{text!r} lacks the `=` between public and private address")
    return pair


@dataclass(frozen=True, slots=True)
class Settings:
    """home: our networks. aliases: (public, private) pairs, besides those that findings themselves carry."""

    home: tuple[Network, ...] = DEFAULT_HOME
    aliases: tuple[tuple[str, str], ...] = ()

    def is_home(self, address: Address) -> bool:
        """Whether the address is one of ours."""
        ours = ipaddress.ip_address(address.packed)
        return any(ours in network for network in self.home)

    def names(self, address: Address, more: Iterable[tuple[str, str]] = ()) -> frozenset[Address]:
        """The address and every other one that the aliases pair it with."""
        names = {address}
        for pair in (*self.aliases, *more):
            try:
                public, private = Address.parse(pair[0]), Address.parse(pair[1])
            except ValueError:
                continue  # findings carry what they like; a pair that is no pair names nothing
            if address in (public, private):
                names |= {public, private}
        return frozenset(names)
