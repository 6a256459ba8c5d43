"""What people may write in options: addresses, times, protocols, conversations, each checked where it is written."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from backscatter.errors import RequestError
from backscatter.finding.model import End, Tuple
from backscatter.flow.address import Address
from backscatter.flow.filter import Filter, parse_proto, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

AnyFunction = TypeVar("AnyFunction", bound="Callable[..., Any]")


#: In ns.
YEAR = 365 * 24 * 3600 * 10**9


def checked(read: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback for an option whose text `read` reads; its ValueError or RequestError is the person's usage error."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(read(text) for text in value)
            return None if value is None else read(value)
        except (ValueError, RequestError) as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


def read_network(text: str) -> Network:
    """An address, or a network in CIDR notation; bits beyond the prefix are ignored, as in 10.0.0.5/24."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address and no network such as 192.0.2.0/24 or 2001:db8::/32") from None


def read_scope(text: str) -> str:
    """The name of a scope as `flows` prints it."""
    if not re.fullmatch(r"(vni:\d+|vlan:\d+(\.\d+)*)?", text, re.ASCII):
        raise ValueError(f"{text!r} is no scope such as vni:7, vlan:100, vlan:100.7 or ''")
    return text


def read_community(text: str) -> str:
    """A community id of version 1: the base64 of 20 bytes (https://github.com/corelight/community-id-spec)."""
    if not re.fullmatch(r"1:[A-Za-z0-9+/]{27}=", text):
        raise ValueError(f"{text!r} is no community id such as 1:0SMa70aty2e1lVvIdRUl+DXfuJs=")
    return text


def read_moment(text: str) -> int:
    """A time (ns) around which a judge can look, days before and after: from 1971 on, as far as 64 bits reach."""
    moment = parse_time(text)
    if not YEAR <= moment < (1 << 63) - YEAR:
        raise ValueError(f"{text!r} is before 1971 or after 2261")
    return moment


def read_zone(text: str) -> tzinfo:
    """An offset from UTC such as +02:00, or the name of a zone, as far as this machine knows it."""
    told = re.fullmatch(r"(?P<sign>[+-])(?P<hours>[01]\d):?(?P<minutes>[0-5]\d)", text, re.ASCII)
    if told is not None:
        offset = timedelta(hours=int(told["hours"]), minutes=int(told["minutes"]))
        return timezone(-offset if told["sign"] == "-" else offset)
    if text.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{text!r} is no offset such as +02:00, and no zone that this machine knows") from None


_TUPLE = re.compile(r"\s*(?P<proto>[\w-]+)\s+(?P<a>\S+?)\s*-?>\s*(?P<b>\S+)\s*", re.ASCII)
_END = re.compile(r"\[(?P<six>[^]]+)](?::(?P<port6>\d{1,5}))?|(?P<four>[\d.]+)(?::(?P<port4>\d{1,5}))?|(?P<bare>\S+)")
_PORTLESS = ("icmp", "icmp6")


def read_tuple(text: str) -> Tuple:
    """A conversation as one writes it: `tcp 10.0.0.5:1024 > 192.0.2.1:6667`; IPv6 `[2001:db8::1]:1024`; ports optional.

    Raises ValueError where it cannot be read.
    """
    found = _TUPLE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no conversation such as 'tcp 10.0.0.5:1024 > 192.0.2.1:6667'")
    proto = parse_proto(found["proto"])
    (one, sport), (other, dport) = _read_end(found["a"]), _read_end(found["b"])
    if one.version != other.version:
        raise ValueError(f"{text!r} joins an IPv4 and an IPv6 address")
    if proto in _PORTLESS and (sport, dport) != (None, None):
        raise ValueError(f"{text!r}: {proto} has no ports")
    return Tuple(proto, End(str(one), sport), End(str(other), dport))


def _read_end(text: str) -> tuple[Address, int | None]:
    found = _END.fullmatch(text)
    assert found is not None, "the last alternative takes anything"
    address = found["six"] or found["four"] or found["bare"]
    port = found["port6"] or found["port4"]
    try:
        ip = Address.parse(address)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address, nor one with a port such as 10.0.0.5:80 or [2001:db8::1]:80"
        ) from None
    if port is not None and not 0 < int(port) < 1 << 16:
        raise ValueError(f"{text!r}: port {port} is not between 1 and 65535")
    return ip, None if port is None else int(port)


captures = click.argument("captures", metavar="CAPTURE...", nargs=-1, required=True)
captures_or_stack = click.argument("captures", metavar="[CAPTURE...]", nargs=-1)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")

_FILTERS = (
    click.option(
        "--host",
        "hosts",
        callback=checked(read_network),
        metavar="ADDRESS|CIDR",
        multiple=True,
        help="Either end is in it.",
    ),
    click.option("--port", "ports", type=click.IntRange(0, 65535), metavar="N", multiple=True, help="Of either end."),
    click.option(
        "--proto",
        "protos",
        callback=checked(parse_proto),
        metavar="NAME",
        multiple=True,
        help="tcp, udp, icmp, icmp6, sctp or a number.",
    ),
    click.option(
        "--since",
        callback=checked(parse_time),
        metavar="T",
        help="What overlaps the time from T: RFC 3339 or epoch seconds.",
    ),
    click.option("--until", callback=checked(parse_time), metavar="T", help="What overlaps the time up to T."),
    click.option(
        "--scope",
        "scopes",
        callback=checked(read_scope),
        metavar="S",
        multiple=True,
        help="vni:N, vlan:N, or '' for what has neither.",
    ),
    click.option(
        "--flow",
        "communities",
        callback=checked(read_community),
        metavar="COMMUNITY_ID",
        multiple=True,
        help="Community id, version 1, seed 0.",
    ),
)


def filters(command: AnyFunction) -> AnyFunction:
    """Add the filter options to a command; `chosen_filter` makes a Filter of their values."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def check_order(since: int | None, until: int | None) -> None:
    """Raise a usage error where no time is left between --since and --until."""
    if since is not None and until is not None and since > until:
        raise click.UsageError("--since is later than --until: nothing lies between them")


def chosen_filter(
    *,
    hosts: tuple[Network, ...],
    ports: tuple[int, ...],
    protos: tuple[str, ...],
    since: int | None,
    until: int | None,
    scopes: tuple[str, ...],
    communities: tuple[str, ...],
) -> Filter:
    """The Filter that the options of `filters` describe. Raises a usage error where no time is left between them."""
    check_order(since, until)
    return Filter(
        hosts=hosts, ports=ports, protos=protos, since=since, until=until, scopes=scopes, communities=communities
    )
