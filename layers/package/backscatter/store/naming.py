"""Whose capture an object is, by its key.

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
