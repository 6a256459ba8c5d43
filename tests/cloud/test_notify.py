"""What leaves by EventBridge fits into an event, and says what was told before."""

import json

import pytest

from backscatter.cloud.notify import EVENT_BYTES, event_detail
from backscatter.errors import StoreError

RECORD = {"verdict": "backscatter", "evidence": [], "flows": []}


def test_a_verdict_goes_out_whole_where_it_fits():
    detail = json.loads(event_detail(RECORD | {"flows": [{"proto": "tcp"}]}, "f-2", "undetermined"))
    assert detail == RECORD | {"flows": [{"proto": "tcp"}], "revision": "f-2", "previous": "undetermined"}


def test_of_a_verdict_that_is_too_large_the_flows_go_first_and_the_evidence_next():
    long = [{"text": "é" * 1000}] * 200
    detail = json.loads(event_detail(RECORD | {"flows": long}, "f-1", None))
    assert (detail["flows"], detail["verdict"]) == ([], "backscatter")
    text = event_detail(RECORD | {"flows": long, "evidence": long}, "f-1", None)
    assert json.loads(text)["evidence"] == []
    assert len(text.encode()) <= EVENT_BYTES


def test_a_verdict_that_cannot_be_cut_to_fit_is_an_error_and_not_a_silence():
    with pytest.raises(StoreError):
        event_detail(RECORD | {"summary": "x" * EVENT_BYTES}, "f-1", None)
