"""The contract's fields and their types: what people script against."""

from __future__ import annotations

import re
from typing import Any

NULL = type(None)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
FLAGS = re.compile(r"F?S?R?P?A?U?E?C?")

TCP_SIDE = dict.fromkeys(("syn_seq", "synack_seq", "synack_ack", "rst_seq", "rst_ack"), (int, NULL))

FLOW: dict[str, Any] = {
    "start": TIME,
    "end": TIME,
    "proto": str,
    "src_ip": str,
    "src_port": (int, NULL),
    "dst_ip": str,
    "dst_port": (int, NULL),
    "icmp_type": (int, NULL),
    "icmp_code": (int, NULL),
    "scope": str,
    "tunnels": [str],
    "src_packets": int,
    "dst_packets": int,
    "src_bytes": int,
    "dst_bytes": int,
    "src_payload": int,
    "dst_payload": int,
    "src_flags": (FLAGS, NULL),
    "dst_flags": (FLAGS, NULL),
    "history": (str, NULL),
    "conn_state": (str, NULL),
    "community_id": (re.compile(r"1:.+="), NULL),
    "quoted": (
        {
            "proto": str,
            "src_ip": str,
            "src_port": (int, NULL),
            "dst_ip": str,
            "dst_port": (int, NULL),
        },
        NULL,
    ),
    "tcp": ({"src": TCP_SIDE, "dst": TCP_SIDE}, NULL),
}

SUMMARY: dict[str, Any] = {
    "captures": int,
    "packets": int,
    "bytes": int,
    "flows": int,
    "first": (TIME, NULL),
    "last": (TIME, NULL),
    "non_ip": int,
    "undecodable": int,
    "damaged_bytes": int,
    "seconds": (int, float),
    "store": {"items": int, "bytes": int, "write_units": int},
}

PACKET: dict[str, Any] = {"time": TIME, "text": str, "capture": str, "offset": int}

END = {"ip": (str, NULL), "port": (int, NULL)}

VERDICT: dict[str, Any] = {
    "finding": {
        "id": str,
        "source": re.compile("guardduty|security_hub|suricata|network_firewall|snort|zeek|sguil|tuple"),
        "type": str,
        "title": str,
        "severity": (int, float, str, NULL),
        "first_seen": (TIME, NULL),
        "last_seen": (TIME, NULL),
        "count": int,
        "sample": bool,
    },
    "proto": (str, NULL),
    "local": END,
    "remote": END,
    "verdict": re.compile(
        "backscatter|connection_established|connection_attempted|inbound_scan|inbound_connection|reflection_target"
        "|synack_scan|undetermined|not_applicable"
    ),
    "why": (re.compile("midstream|asymmetric|no_capture|not_seen|no_tuple|conflict"), NULL),
    "confidence": int,
    "band": (re.compile("confirmed|probable|possible|none"), NULL),
    "rule": (re.compile(r"R\d+"), NULL),
    "summary": str,
    "victim": ({"ip": str, "port": (int, NULL), "proto": str}, NULL),
    "conversations": dict,
    "evidence": [{"effect": re.compile("for|against|missing"), "text": str, "packets": [PACKET]}],
    "flows": [FLOW],
    "flows_total": int,
}


def faults(value: Any, schema: Any, where: str = "") -> list[str]:
    """Where a value is not what the schema says. Fields beyond the schema are free."""
    if isinstance(schema, tuple):
        told = [faults(value, one, where) for one in schema]
        return min(told, key=len) if all(told) else []
    if isinstance(schema, re.Pattern):
        return (
            [] if isinstance(value, str) and schema.fullmatch(value) else [f"{where}: {value!r} is no {schema.pattern}"]
        )
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [fault for i, one in enumerate(value) for fault in faults(one, schema[0], f"{where}[{i}]")]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        missing = [f"{where}.{name} is missing" for name in schema if name not in value]
        return missing + [
            fault for name in schema if name in value for fault in faults(value[name], schema[name], f"{where}.{name}")
        ]
    if schema is int and isinstance(value, bool):
        return [f"{where}: {value!r} is no number"]
    return [] if isinstance(value, schema) else [f"{where}: {value!r} is no {schema.__name__}"]
