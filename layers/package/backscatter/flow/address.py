"""Addresses as the tables hold them: version, high 64 bits, low 64 bits."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple


class Address(NamedTuple):
    """An IP address: `version` 4 or 6; IPv4 lies in the lowest 32 bits of `lo`."""

    version: int
    hi: int
    lo: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that a text names. Raises ValueError where it names none."""
        address = ipaddress.ip_address(text.partition("%")[0])
        number = int(address)
        return cls(address.version, number >> 64, number & (1 << 64) - 1)

    @property
    def packed(self) -> bytes:
        """The address in network order, 4 or 16 bytes."""
        return ((self.hi << 64) | self.lo).to_bytes(4 if self.version == 4 else 16, "big")

    def __str__(self) -> str:
        return _text(self)


@lru_cache(maxsize=65536)
def _text(address: Address) -> str:
    return str(ipaddress.ip_address(address.packed))
