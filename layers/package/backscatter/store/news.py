"""What is news: whether a verdict is worth a person's time, given what was told before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Reasons of `undetermined` that a capture which is still on its way can remove.
MAY_PASS = frozenset({"no_capture", "not_seen", "midstream", "asymmetric"})


def gist(record: Mapping[str, Any]) -> dict[str, object]:
    """What of a verdict record makes news when it changes."""
    victim = record.get("victim")
    return {
        "verdict": str(record["verdict"]),
        "band": str(record["band"]),
        "victim": f"{victim['proto']} {victim['ip']} {victim['port']}" if victim else "",
    }


def is_news(told: Mapping[str, object] | None, record: Mapping[str, Any], *, patient: bool) -> bool:
    """Whether a verdict has to be told.

    told     the gist of what was told last; None where nothing was
    record   the verdict as `report.record.verdict_record` gives it
    patient  the patience with missing captures is not over yet

    The first verdict is news, and any change of label, band or victim, so a verdict that turns from backscatter to
    something real always is. Only a *first* verdict waits: one that is undetermined for want of captures. That a
    finding is about no conversation is nobody's news: whoever reported it told it already.
    """
    if told is None and record["verdict"] == "not_applicable":
        return False
    if told is None:
        return not (patient and record["verdict"] == "undetermined" and record.get("why") in MAY_PASS)
    return dict(told) != gist(record)
