"""Whose capture an object is, and of when, by its key.

Rotated captures of one sensor lie in one folder, or in folders that differ in a date: what is left of the folder names
the sensor. So do those who already put captures into S3, but for load balancers, where the file names it:

    packet-captures/i-0abc/2026-11-22-18-00.pcap                     tcpdump behind a Gateway Load Balancer
    node/node-261122-00000001.pcap.zst                               Arkime
    2026/11/22/18/my-elb_eu-west-1a_10.0.0.5_capture_20261122.pcap   load balancer captures

Sensors that share a folder are told apart only where their captures overlap in time (`store.scene`); where they do not,
what one of them missed is taken for covered by the other. Each needs its own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: Folders that say when: 2026/11/22/18, 2026-11-22, year=2026/month=11/day=22/hour=18.
_DATE_FOLDERS = re.compile(
    r"/(?:\d{4}/\d\d/\d\d(?:/\d\d){0,2}|\d{4}-\d\d-\d\d(?:/\d\d)?|year=\d{4}(?:/(?:month|day|hour|minute)=\d\d?)*)$"
)
#: load balancer, zone and address; the rest of the name is a time
_LOAD_BALANCER = re.compile(r"(?P<sensor>[^/_]+_[^/_]+_[0-9A-Fa-f.:]+)_capture_[^/]+")


def sensor_of(key: str) -> str:
    """The sensor that an object's key names; "" for objects that lie in no folder."""
    folder, _, file = key.rpartition("/")
    home = _DATE_FOLDERS.sub("", f"/{folder}").removeprefix("/")
    match = _LOAD_BALANCER.fullmatch(file)
    return f"{home}/{match['sensor']}".removeprefix("/") if match else home


#: Where names say when: the digits of a date, and maybe of a time, with or without separators. The file's name is
#: asked first; a capture that is named in no such way may lie in folders that are.
_MOMENTS = (
    re.compile(
        r"(?<!\d)(?P<y>20\d\d)-?(?P<m>\d\d)-?(?P<d>\d\d)(?:[-T_]?(?P<H>\d\d)[-:]?(?P<M>\d\d)(?:[-:]?(?P<S>\d\d))?)?"
    ),
    re.compile(r"-(?P<y>\d\d)(?P<m>\d\d)(?P<d>\d\d)-\d+(?=\.)"),
)
_FOLDERS = re.compile(
    r"(?:^|/)(?:year=)?(?P<y>20\d\d)/(?:month=)?(?P<m>\d\d?)/(?:day=)?(?P<d>\d\d?)(?:/(?:hour=)?(?P<H>\d\d?))?(?:/|$)"
)


def time_of(key: str) -> int | None:
    """When a capture begins (ns, UTC) as its key says, to the minute, hour or day; None where it says nothing."""
    folder, _, file = key.rpartition("/")
    for pattern, text in (*((pattern, file) for pattern in _MOMENTS), (_FOLDERS, folder), (_MOMENTS[0], folder)):
        for match in pattern.finditer(text):
            moment = _moment({name: int(digits) for name, digits in match.groupdict().items() if digits})
            if moment is not None:
                return moment
    return None


def _moment(digits: dict[str, int]) -> int | None:
    year = digits["y"] if digits["y"] > 99 else 2000 + digits["y"]
    try:
        time = datetime(
            year, digits["m"], digits["d"], digits.get("H", 0), digits.get("M", 0), digits.get("S", 0), tzinfo=UTC
        )
    except ValueError:
        return None  # digits that are no date
    return int(time.timestamp()) * 10**9
