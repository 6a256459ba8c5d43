"""GuardDuty findings: by EventBridge, by S3 export, and as the SDKs print them (PascalCase).

Format: https://docs.aws.amazon.com/guardduty/latest/APIReference/API_Finding.html
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

from backscatter.finding.fields import TITLE_CHARS, Fields, Place
from backscatter.finding.model import End, Finding, Tuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: actionType of findings that are about no conversation of a host. Kinds that we do not know are taken for network
#: findings without addresses: that verdict is `undetermined`, never a quiet `not_applicable`.
NOT_NETWORK = frozenset({"AWS_API_CALL", "DNS_REQUEST", "KUBERNETES_API_CALL", "RDS_LOGIN_ATTEMPT"})

#: More probe details, interfaces of an instance, endpoints or resources of an attack sequence than AWS gives.
MOST_PROBES, MOST_INTERFACES, MOST_IN_SEQUENCE = 256, 64, 1000
#: Pairs of a remote endpoint and an address of ours that an attack sequence is taken to be about, at most.
MOST_PAIRS = 1000


def is_finding(document: Mapping[str, object]) -> bool:
    """Whether a JSON object has the shape of a GuardDuty finding."""
    fields = Fields(document, Place(""))
    return "service" in fields and "type" in fields and "id" in fields and ("arn" in fields or "severity" in fields)


def read(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of one GuardDuty document, any case of field names. Raises FindingError naming the field."""
    fields = Fields(document, place)
    service = fields.child("service")
    action = service.child("action")
    sequence = service.child("detection", "sequence")
    kind = action.text("actionType").upper()
    seen = [time for time in (service.moment("eventFirstSeen"), service.moment("eventLastSeen")) if time is not None]
    finding_id = fields.identifier("id")
    if not finding_id:
        raise place.error("field id: a GuardDuty finding without an id")
    yield Finding(
        id=finding_id,
        source="guardduty",
        type=fields.text("type"),
        title=fields.text("title", TITLE_CHARS) or fields.text("type"),
        severity=fields.measure("severity"),
        first_seen=min(seen, default=None),
        last_seen=max(seen, default=None),
        updated=fields.text("updatedAt"),
        count=service.integer("count", 0, 2**53) or 1,
        sample=_is_sample(service),
        tuples=tuple(_tuples(kind, action, fields)) or tuple(sequence_tuples(sequence, _sequence_interfaces(sequence))),
        is_network=kind not in NOT_NETWORK,
        aliases=tuple(dict.fromkeys((*_aliases(fields), *_sequence_aliases(sequence)))),
        account=fields.text("accountId"),
        region=fields.text("region"),
        origin=str(place),
    )


def _tuples(kind: str, action: Fields, finding: Fields) -> Iterator[Tuple]:
    if kind == "NETWORK_CONNECTION":
        connection = action.child("networkConnectionAction")
        yield _conversation(connection, connection.protocol("protocol"), finding)
    elif kind == "PORT_PROBE":
        for probe in action.child("portProbeAction").children("portProbeDetails", MOST_PROBES):
            yield _conversation(probe, None, finding)


def _conversation(sides: Fields, proto: str | None, finding: Fields) -> Tuple:
    local, remote = sides.child("localIpDetails"), sides.child("remoteIpDetails")
    # Where an end has addresses of both families, the conversation is of the one that both ends have.
    family = next((name for name in _FAMILIES if name in local and name in remote), None)
    local_ip = local.address(family) if family else _first_address(local) or _only_private_address(sides, finding)
    remote_ip = remote.address(family) if family else _first_address(remote)
    return Tuple(
        proto,
        End(local_ip, sides.child("localPortDetails").port("port")),
        End(remote_ip, sides.child("remotePortDetails").port("port")),
        resource="a",
    )


_FAMILIES = ("ipAddressV4", "ipAddressV6")


def _first_address(details: Fields) -> str | None:
    return next((details.address(name) for name in _FAMILIES if name in details), None)


def _only_private_address(sides: Fields, finding: Fields) -> str | None:
    """The instance's private address, for older findings that name no local one; None where there are several."""
    wanted = sides.text("localNetworkInterface")
    addresses = {
        interface.address("privateIpAddress")
        for interface in _interfaces(finding)
        if not wanted or interface.text("networkInterfaceId") == wanted
    }
    return addresses.pop() if len(addresses) == 1 else None


def _aliases(finding: Fields) -> Iterator[tuple[str, str]]:
    for interface in _interfaces(finding):
        public, private = interface.address("publicIp"), interface.address("privateIpAddress")
        if public and private and public != private:
            yield public, private


def _interfaces(finding: Fields) -> Iterator[Fields]:
    return finding.child("resource", "instanceDetails").children("networkInterfaces", MOST_INTERFACES)


def sequence_tuples(sequence: Fields, ours: Iterable[str]) -> Iterator[Tuple]:
    """The conversations of an attack sequence: each remote endpoint with each address of ours that it names.

    An endpoint tells no protocol, and not whose port its port is: any conversation of the two hosts is meant.
    """
    local: list[str | None] = [*dict.fromkeys(ours)] or [None]
    remote = {
        ip: None
        for endpoint in sequence.children("endpoints", MOST_IN_SEQUENCE)
        if (ip := endpoint.address("ip")) is not None
    }
    pairs = ((a, b) for b in remote for a in local if a is None or (":" in a) == (":" in b))
    for a, b in islice(pairs, MOST_PAIRS):
        yield Tuple(None, End(a), End(b), resource="a")


def _sequence_interfaces(sequence: Fields) -> Iterator[str]:
    """The private addresses of the network interfaces among a sequence's resources."""
    for interface in _resources(sequence):
        yield from _private(interface)
        yield from (normal for text in interface.texts("ipv6Addresses", 1000) if (normal := _normal(text, interface)))


def _sequence_aliases(sequence: Fields) -> Iterator[tuple[str, str]]:
    """The public address of an interface with its private one, where it has only one: which of several is not told."""
    for interface in _resources(sequence):
        public, private = interface.address("publicIp"), list(_private(interface))
        if public and len(private) == 1 and public != private[0]:
            yield public, private[0]


def _resources(sequence: Fields) -> Iterator[Fields]:
    for resource in sequence.children("resources", MOST_IN_SEQUENCE):
        data = resource.child("data")
        if "ec2NetworkInterface" in data:
            yield data.child("ec2NetworkInterface")


def _private(interface: Fields) -> Iterator[str]:
    for pair in interface.children("privateIpAddresses", 1000):
        address = pair.address("privateIpAddress")
        if address:
            yield address


def _normal(text: str, fields: Fields) -> str | None:
    return Fields({"ipv6Addresses": text}, fields.place).address("ipv6Addresses")


def _is_sample(service: Fields) -> bool:
    """Whether GuardDuty made the finding up. The SDKs' form hides the mark in JSON inside a text."""
    extra = service.child("additionalInfo")
    if extra.truth("sample"):
        return True
    try:
        inner = json.loads(extra.text("value", 65536) or "null")
    except (ValueError, RecursionError):
        return False  # a text of AWS's own that need not be JSON
    return isinstance(inner, dict) and Fields(inner, service.place).truth("sample")
