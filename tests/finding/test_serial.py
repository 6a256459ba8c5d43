from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.errors import FindingError
from backscatter.finding.model import AlertedPacket, End, Finding, Tuple
from backscatter.finding.serial import finding_from, finding_text

FINDING = Finding(
    id="1",
    source="sguil",
    type="bot",
    title="Known Bot C&C Server Traffic",
    severity=5.5,
    first_seen=1,
    last_seen=None,
    tuples=(Tuple("tcp", End("69.143.202.28", 1024), End("193.109.122.67", 6667), "a"), Tuple(None, End(), End())),
    vlan=(100, 7),
    packet=AlertedPacket(flags=4, seq=2934031229, ack=0),
    aliases=(("203.0.113.5", "10.0.0.5"),),
    community_id="1:wCb3OG7yAFWelaUydu0D+125CLM=",
    capture_file="log.pcap",
    pcap_cnt=7,
    tunnel=Tuple("47", End("192.0.2.1"), End("192.0.2.2")),
    notes=("its packet could not be read",),
    original="as it came",
)


@given(st.text(max_size=50), st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_finding_comes_back_as_it_was(text, severity):
    finding = dataclasses.replace(FINDING, title=text, original=text, severity=severity)
    assert finding_from(finding_text(finding)) == finding


def test_a_finding_kept_before_it_had_these_fields_comes_back():
    record = json.loads(finding_text(FINDING))
    for name in ("community_id", "capture_file", "pcap_cnt", "tunnel"):
        del record[name]
    old = dataclasses.replace(FINDING, community_id="", capture_file="", pcap_cnt=None, tunnel=None)
    assert finding_from(json.dumps(record)) == old


def test_lone_surrogates_survive_as_ascii():
    finding = dataclasses.replace(FINDING, title="\ud800")
    assert finding_text(finding).isascii()
    assert finding_from(finding_text(finding)) == finding


@pytest.mark.parametrize("character", ["a", "é", "\x00", "\U0001f600"])
def test_a_long_original_is_cut_to_fit_and_says_so(character):
    kept = finding_from(finding_text(dataclasses.replace(FINDING, original=character * 200_000), 5000))
    assert len(finding_text(kept)) <= 5000
    assert len(finding_text(kept)) > 3500
    assert "cut" in kept.original[-60:]
    assert dataclasses.replace(kept, original=FINDING.original) == FINDING


def test_nothing_but_the_original_is_cut():
    many = dataclasses.replace(FINDING, tuples=FINDING.tuples * 1000)
    with pytest.raises(FindingError, match="characters, 5000 are kept"):
        finding_text(many, 5000)


@pytest.mark.parametrize("text", ["{}", "[]", "null", "x", '{"packet": null}'])
def test_other_text_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".*"):
        finding_from(text)


def test_a_severity_that_is_no_number_is_kept_as_text():
    assert finding_from(finding_text(dataclasses.replace(FINDING, severity=float("inf")))).severity == "inf"
