"""Security Hub findings in the AWS Security Finding Format (ASFF).

Format: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html
The format's own network action has no local address. Where GuardDuty is the source, its tuple lies in ProductFields,
as texts under path-like names.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from backscatter.finding.fields import TITLE_CHARS, Fields, Place
from backscatter.finding.guardduty import NOT_NETWORK, sequence_tuples
from backscatter.finding.model import End, Finding, Tuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SERVICE = "aws/guardduty/service/"
_CONNECTION = _SERVICE + "action/networkConnectionAction/"
_PROBE = _SERVICE + "action/portProbeAction/portProbeDetails.{}_/"
_MOST_PROBES = 100
#: Addresses that AWS gives to nobody as public ones (RFC 1918, RFC 6598).
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
_MOST_RESOURCES, _MOST_ADDRESSES = 100, 1000


def is_finding(document: Mapping[str, object]) -> bool:
    """Whether a JSON object has the shape of an ASFF finding."""
    return "ProductArn" in document and "AwsAccountId" in document and "Id" in document


def read(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of one ASFF document. Raises FindingError naming the field."""
    fields = Fields(document, place)
    product, action = fields.child("ProductFields"), fields.child("Action")
    severity = fields.child("Severity")
    seen = [
        time
        for time in (
            product.moment(_SERVICE + "eventFirstSeen") or fields.moment("FirstObservedAt"),
            product.moment(_SERVICE + "eventLastSeen") or fields.moment("LastObservedAt"),
        )
        if time is not None
    ]
    kind = (product.text(_SERVICE + "action/actionType") or action.text("ActionType")).upper()
    finding_id = fields.identifier("Id")
    if not finding_id:
        raise place.error("field Id: a Security Hub finding without an id")
    yield Finding(
        id=finding_id,
        source="security_hub",
        type=next(iter(fields.texts("Types", 50)), ""),
        title=fields.text("Title", TITLE_CHARS),
        severity=severity.measure("Label") or severity.measure("Normalized"),
        first_seen=min(seen, default=None),
        last_seen=max(seen, default=None),
        updated=fields.text("UpdatedAt"),
        count=product.integer(_SERVICE + "count", 0, 2**53) or 1,
        sample=fields.truth("Sample") or product.truth(_SERVICE + "additionalInfo/sample"),
        tuples=tuple(_tuples(fields, product, action)),
        is_network=kind not in NOT_NETWORK,
        aliases=tuple(dict.fromkeys(_aliases(fields))),
        account=fields.text("AwsAccountId"),
        region=fields.text("Region") or _region(fields),
        origin=str(place),
    )


def _tuples(fields: Fields, product: Fields, action: Fields) -> Iterator[Tuple]:
    """The first of the places that say anything: GuardDuty's tuple, the format's action, the format's network."""
    told = [*_guardduty_tuples(product)] or [*_action_tuples(action)]
    if not told and "Network" in fields:
        network = fields.child("Network")
        told = [
            Tuple(
                network.protocol("Protocol"),
                End(network.address("SourceIpV4") or network.address("SourceIpV6"), network.port("SourcePort")),
                End(
                    network.address("DestinationIpV4") or network.address("DestinationIpV6"),
                    network.port("DestinationPort"),
                ),
            )
        ]
    yield from told or sequence_tuples(fields.child("Detection", "Sequence"), _private(fields))


def _guardduty_tuples(product: Fields) -> Iterator[Tuple]:
    proto = product.protocol(_CONNECTION + "protocol")
    for path in (_CONNECTION, *(_PROBE.format(number) for number in range(_MOST_PROBES))):
        local = product.address(path + "localIpDetails/ipAddressV4") or product.address(
            path + "localIpDetails/ipAddressV6"
        )
        remote = product.address(path + "remoteIpDetails/ipAddressV4") or product.address(
            path + "remoteIpDetails/ipAddressV6"
        )
        if local or remote:
            yield Tuple(
                proto,
                End(local, product.port(path + "localPortDetails/port")),
                End(remote, product.port(path + "remotePortDetails/port")),
                resource="a",
            )


def _action_tuples(action: Fields) -> Iterator[Tuple]:
    connection = action.child("NetworkConnectionAction")
    if "RemoteIpDetails" in connection:
        yield _half(connection, connection.protocol("Protocol"))
    for probe in action.child("PortProbeAction").children("PortProbeDetails", _MOST_PROBES):
        yield _half(probe, None)


def _half(sides: Fields, proto: str | None) -> Tuple:
    """What ASFF says of a conversation: no local address, unless a port probe names it."""
    return Tuple(
        proto,
        End(sides.child("LocalIpDetails").address("IpAddressV4"), sides.child("LocalPortDetails").port("Port")),
        End(sides.child("RemoteIpDetails").address("IpAddressV4"), sides.child("RemotePortDetails").port("Port")),
        resource="a",
    )


def _addresses(fields: Fields) -> Iterator[list[str]]:
    """The IPv4 addresses of each instance among the resources, public and private ones together."""
    for resource in fields.children("Resources", _MOST_RESOURCES):
        texts = resource.child("Details", "AwsEc2Instance").texts("IpV4Addresses", _MOST_ADDRESSES)
        told = (Fields({"IpV4Addresses": text}, fields.place).address("IpV4Addresses") for text in texts)
        yield [address for address in told if address]


def _private(fields: Fields) -> Iterator[str]:
    return (ip for addresses in _addresses(fields) for ip in addresses if _is_private(ip))


def _is_private(ip: str) -> bool:
    return any(ipaddress.ip_address(ip) in network for network in _PRIVATE)


def _aliases(fields: Fields) -> Iterator[tuple[str, str]]:
    """An instance's public address with its private one, where it has one of each: of more nothing pairs them."""
    for addresses in _addresses(fields):
        private = [ip for ip in addresses if _is_private(ip)]
        public = [ip for ip in addresses if ip not in private]
        if len(private) == len(public) == 1:
            yield public[0], private[0]


def _region(fields: Fields) -> str:
    """The region of the product's ARN, arn:aws:securityhub:REGION:..."""
    parts = fields.text("ProductArn").split(":")
    return parts[3] if len(parts) > 3 else ""
