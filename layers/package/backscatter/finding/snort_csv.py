"""Snort's alert_csv: which columns it has is for the user to configure, and nothing in the file tells.

A first line that names the columns does (somebody's own, or put there for us), and so does whoever calls us; without
either, rows that begin with a time and have as many fields as a usual choice of columns are taken for it.
Source: src/output-plugins/spo_csv.c of Snort 2.9, src/loggers/alert_csv.cc of Snort 3.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

from backscatter.finding.snort import alert

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backscatter.finding.fields import Place
    from backscatter.finding.model import Finding

#: Columns of Snort 2 -> what Snort 3 calls them. What we do not use has no place here.
NAMES = {
    "sig_generator": "gid",
    "sig_id": "sid",
    "sig_rev": "rev",
    "classification": "class",
    "src": "src_addr",
    "srcip": "src_addr",
    "srcport": "src_port",
    "sport": "src_port",
    "dst": "dst_addr",
    "dstip": "dst_addr",
    "dstport": "dst_port",
    "dport": "dst_port",
    "protoname": "proto",
    "tcpflags": "tcp_flags",
    "tcpseq": "tcp_seq",
    "tcpack": "tcp_ack",
    "tcpwindow": "tcp_win",
    "flags": "tcp_flags",
    "seq": "tcp_seq",
    "ack": "tcp_ack",
    "window": "tcp_win",
}

#: A header names one of each of these: what rule it was, and between whom.
_RULES, _HOSTS = frozenset({"sid", "rule", "msg"}), frozenset({"src_addr", "src_ap", "dst_addr", "dst_ap"})

_SNORT2 = (
    "timestamp,sig_generator,sig_id,sig_rev,msg,proto,src,srcport,dst,dstport,ethsrc,ethdst,ethlen,tcpflags,tcpseq,"
    "tcpack,tcplen,tcpwindow,ttl,tos,id,dgmlen,iplen,icmptype,icmpcode,icmpid,icmpseq"
)
_SNORT3 = "timestamp,pkt_num,proto,pkt_gen,pkt_len,dir,src_ap,dst_ap,rule,action"
_PFSENSE = (
    "timestamp,sig_generator,sig_id,sig_rev,msg,proto,src,srcport,dst,dstport,id,classification,priority,action,"
    "disposition"
)

#: How many fields a row has -> the choice of columns that has as many: the defaults of Snort 2 and 3, pfSense's two.
USUAL = {
    len(columns): columns
    for columns in (
        tuple(_SNORT2.split(",")),
        tuple(_SNORT3.split(",")),
        tuple(_PFSENSE.split(",")),
        tuple(_PFSENSE.split(",")[:13]),
    )
}

_ROW = re.compile(r"[0-9]{2}/[0-9]{2}(?:/[0-9]{2,4})?-[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?[ \t]*,")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}(?:[ \t]*,[ \t]*[A-Za-z][A-Za-z0-9_]{0,30}){2,63}")
_HEX = re.compile(r"0[xX](?P<digits>[0-9A-Fa-f]{1,8})")
_MOST_FIELDS = 100


def header(line: str) -> tuple[str, ...] | None:
    """The columns that a line names, None where it is no header."""
    if not _HEADER.fullmatch(line.strip()):
        return None
    columns = columns_from(line)
    names = {NAMES.get(name, name) for name in columns}
    return columns if names & _RULES and names & _HOSTS else None


def columns_from(text: str) -> tuple[str, ...]:
    """Names of columns, separated by commas or by spaces, as Snort's configuration has them."""
    return tuple(name.lower() for name in re.split(r"[,\s]+", text.strip()) if name)


def is_row(line: str) -> bool:
    """Whether a line is a row, whatever its columns: the first of the usual ones is the time."""
    return _ROW.match(line) is not None


def row(line: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a row by the names of their columns, as Snort 3 calls them.

    Raises ValueError where they do not fit.
    """
    try:
        (values,) = csv.reader([line], doublequote=True, escapechar="\\", skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"a row of CSV that cannot be read: {error or 'it has several lines'}") from error
    columns = columns or USUAL.get(len(values), ())
    if not columns:
        raise ValueError(
            f"a row of CSV of {len(values)} fields: name its columns in a first line, or with --csv-columns"
        )
    if len(values) != len(columns):
        raise ValueError(f"a row of {len(values)} fields for {len(columns)} columns")
    named = zip(columns[:_MOST_FIELDS], values, strict=False)
    return {NAMES.get(name, name): _plain(value.strip()) for name, value in named}


def read(fields: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of one row. Raises FindingError naming the field."""
    yield alert(fields, place)


def _plain(value: str) -> str | int:
    """A value; Snort 2 writes some numbers with 0x."""
    told = _HEX.fullmatch(value)
    return int(told["digits"], 16) if told else value
