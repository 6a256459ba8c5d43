from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from tests.report.cases import BACKSCATTER, CAPTURE, told_as

from backscatter.flow.table import FlowTable
from backscatter.report.record import verdict_record
from backscatter.verdict.model import Label, Verdict, Why


def test_the_record_has_exactly_the_fields_of_the_contract():
    record = verdict_record(BACKSCATTER)
    fields = "finding proto local remote verdict why confidence band rule summary victim conversations evidence flows"
    assert list(record) == [*fields.split(), "flows_total", "judged"]
    assert record["finding"] == {
        "id": "1.204541",
        "source": "sguil",
        "type": "BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)",
        "title": "BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)",
        "severity": None,
        "first_seen": "2007-03-20T18:04:19.000000000Z",
        "last_seen": "2007-03-20T18:04:19.000000000Z",
        "count": 2,
        "sample": False,
    }
    assert (record["local"], record["remote"]) == (
        {"ip": "69.143.202.28", "port": 1024},
        {"ip": "193.109.122.67", "port": 6667},
    )
    assert (record["verdict"], record["why"], record["confidence"], record["band"], record["rule"]) == (
        "backscatter",
        None,
        97,
        "confirmed",
        "R4",
    )
    assert record["victim"] == {"ip": "193.109.122.67", "port": 6667, "proto": "tcp"}
    assert record["evidence"][0]["packets"] == [
        {
            "time": "2007-03-20T18:04:19.731091000Z",
            "text": "IP 193.109.122.67.6667 > 69.143.202.28.1024: Flags [S.], seq 4257997451, ack 2934031229, "
            "win 2048, length 0",
            "capture": CAPTURE,
            "offset": 24,
        }
    ]
    assert record["flows"][0]["src_flags"] == "SA"
    assert record["flows_total"] == 2


def test_the_record_is_json_as_it_stands():
    assert json.loads(json.dumps(verdict_record(BACKSCATTER), allow_nan=False)) == verdict_record(BACKSCATTER)


def test_an_undetermined_verdict_says_why_and_names_no_victim():
    record = verdict_record(told_as(Label.UNDETERMINED, why=Why.NO_CAPTURE, confidence=0, rule="R18"))
    assert (record["verdict"], record["why"], record["band"], record["victim"]) == (
        "undetermined",
        "no_capture",
        "none",
        None,
    )


def test_at_most_a_hundred_flows_are_printed():
    table = BACKSCATTER.flows
    many = FlowTable(np.repeat(table.rows, 250), table.quotes, table.scopes, table.tunnels, table.sensors, table.pieces)
    record = verdict_record(replace(BACKSCATTER, flows=many, flows_total=250))
    assert (len(record["flows"]), record["flows_total"]) == (100, 250)


def test_a_finding_without_times_has_none():
    finding = replace(BACKSCATTER.finding, first_seen=None, last_seen=None)
    verdict = Verdict(finding, None, BACKSCATTER.local, BACKSCATTER.remote, Label.NOT_APPLICABLE, None, 0, None, "x")
    record = verdict_record(verdict)
    assert record["finding"]["first_seen"] is record["finding"]["last_seen"] is None
    assert (record["flows"], record["evidence"], record["rule"]) == ([], [], None)
