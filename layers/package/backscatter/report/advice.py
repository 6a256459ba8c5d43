"""What each verdict means to the person who reads it, and what to do next. A table, so that it can be read as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backscatter.verdict.model import Label, Why

if TYPE_CHECKING:
    from backscatter.verdict.model import Verdict


class Advice(NamedTuple):
    """headline: the verdict in three or four words. meaning: what happened. steps: what to do, in order."""

    headline: str
    meaning: str
    steps: tuple[str, ...]


ADVICE: dict[Label, Advice] = {
    Label.CONNECTION_ESTABLISHED: Advice(
        "Real connection",
        "Our host and the remote really exchanged traffic. This is not backscatter.",
        (
            "Treat the alert as real and follow your incident procedure for the local host.",
            "Find the process behind the local port, and isolate the host if the remote is hostile.",
            "Keep the captures named below: they hold the conversation.",
        ),
    ),
    Label.CONNECTION_ATTEMPTED: Advice(
        "Our host tried to connect",
        "Our host itself contacted the remote. No answer completed it, but the intent was ours.",
        (
            "Treat the alert as real: look for what on the local host started it.",
            "Look for the same remote, and for other targets, in this host's flows.",
        ),
    ),
    Label.INBOUND_CONNECTION: Advice(
        "The remote connected to us",
        "The remote opened a connection to our host, and our host answered.",
        (
            "Check whether this service is meant to be reachable from there, and what was exchanged.",
            "If not, close the port in the security group and look into the host's logs for that time.",
        ),
    ),
    Label.REFLECTION_TARGET: Advice(
        "We are being flooded",
        "Many strangers answer our host at once: somebody sends them requests with our address forged on them.",
        (
            "Treat it as a denial of service against our host; tell your provider or AWS Shield.",
            "Our host is not infected because of this alert alone; do not take it off the network for it.",
        ),
    ),
    Label.UNDETERMINED: Advice(
        "Not decided",
        "The captures do not allow a judgement. Nothing here says that the alert is harmless.",
        ("Treat the alert as you would without this message.",),
    ),
    Label.SYNACK_SCAN: Advice(
        "Scan with SYN+ACK packets",
        "A remote sends answers to nobody's question, to many of our hosts or ports: a scan, not a flood's echo.",
        (
            "No host of ours opened a connection. Treat it like any other scan.",
            "Block the remote if your policy says so.",
        ),
    ),
    Label.INBOUND_SCAN: Advice(
        "Scan from outside",
        "The remote knocked, and our host did not let it in.",
        (
            "No connection came of it. Treat it like any other scan.",
            "Check that the port is meant to be reachable from outside.",
        ),
    ),
    Label.BACKSCATTER: Advice(
        "Backscatter",
        "Somebody flooded the remote with packets that carried our address as their forged sender. "
        "The remote answered us. Our host did not start this.",
        (
            "No action on the local host is needed for this alert.",
            "Close the alert with this verdict attached; do not block the remote, it is the victim.",
        ),
    ),
    Label.NOT_APPLICABLE: Advice(
        "Not about a conversation",
        "The finding is about no network conversation, so captures say nothing about it.",
        ("Handle the finding by its own procedure.",),
    ),
}

#: The first step of an undetermined verdict, by what it lacks.
MISSING: dict[Why, str] = {
    Why.MIDSTREAM: "Capture began too late, or had a hole: look for an older or another capture of this host.",
    Why.ASYMMETRIC: "Only one direction was captured: mirror both directions of this host.",
    Why.NO_CAPTURE: "Nothing was captured at that time: check that this host is mirrored and that uploads arrive.",
    Why.NOT_SEEN: "The host was captured, this conversation was not: check address translation (aliases) and scopes.",
    Why.NO_TUPLE: "The alert names no addresses: open it at its source.",
    Why.CONFLICT: "The evidence contradicts itself: read the packets below, somebody has to judge this one.",
}

#: The steps of backscatter that is not confirmed: nobody closes an alert on a likelihood alone.
UNSURE: dict[str, tuple[str, ...]] = {
    "probable": (
        "It is likely, not proven: look at what is missing below before you close the alert.",
        "Nothing seen so far asks for action on the local host.",
    ),
    "possible": (
        "It is possible, not more: keep the alert open.",
        "Look for what is missing below, an older or another capture of this host for a start.",
    ),
}

#: How the meaning of a verdict begins that calms and is not confirmed. What alarms is never hedged.
HEDGES = {"probable": "Most likely: ", "possible": "Possibly: "}
CALMING = (Label.BACKSCATTER, Label.INBOUND_SCAN, Label.SYNACK_SCAN)

#: Labels that say that something real happened at our host.
REAL = (Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED, Label.INBOUND_CONNECTION, Label.REFLECTION_TARGET)


def steps(verdict: Verdict) -> tuple[str, ...]:
    """What to do about a verdict, in order."""
    own = ADVICE[verdict.label].steps
    if verdict.label is Label.UNDETERMINED and verdict.why:
        return (MISSING[verdict.why], *own)
    if verdict.label is Label.BACKSCATTER and verdict.band != "confirmed":
        return UNSURE.get(verdict.band, UNSURE["possible"])
    return own


def meaning(verdict: Verdict) -> str:
    """What happened, as surely as it is known."""
    told = ADVICE[verdict.label].meaning
    return HEDGES.get(verdict.band, "") + told if verdict.label in CALMING else told


def turn(verdict: Verdict, previous: str | None) -> str:
    """One sentence on how a verdict differs from the one told before; "" where there was none or it is the same."""
    if not previous or previous == verdict.label:
        return ""
    if previous == Label.BACKSCATTER:
        if verdict.label in REAL:
            return "CORRECTION: this was told to be backscatter. It is not: treat it as real, now."
        return "CORRECTION: this was told to be backscatter. That no longer holds: open the alert again."
    before = ADVICE[Label(previous)].headline.lower() if previous in set(Label) else "something else"
    return f"This changes an earlier verdict, which was: {before}."
