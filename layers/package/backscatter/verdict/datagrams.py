"""Who asked in an exchange of UDP datagrams, by what their payloads say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscatter.decode.columns import (
    DNS_ANSWER,
    DNS_QUERY,
    NTP_ANSWER,
    NTP_ASK,
    QUIC_INITIAL,
    QUIC_LONG,
    QUIC_SHORT,
)

if TYPE_CHECKING:
    from backscatter.verdict.conversation import Conversation

QUESTIONS, ANSWERS = DNS_QUERY | NTP_ASK, DNS_ANSWER | NTP_ANSWER

#: QUIC tells servers from clients by the port only (RFC 9000): both sides begin with Initial packets.
QUIC_PORT = 443

#: Ports of servers whose answers we can tell: DNS, NTP, QUIC.
SERVICES = frozenset({53, 123, QUIC_PORT})


def asked_by_content(one: Conversation) -> bool | None:
    """Whether payloads show the local end asking (True) or the remote end (False); None where they do not.

    What they say counts for more than who was seen first: requests may be delivered late or lie before the capture.
    """
    ours = QUESTIONS | (QUIC_INITIAL if one.remote_port == QUIC_PORT else 0)
    theirs = QUESTIONS | (QUIC_INITIAL if one.local_port == QUIC_PORT else 0)
    if any(flow.local.speech & ours or flow.remote.speech & ANSWERS for flow in one.flows):
        return True
    if any(flow.remote.speech & theirs or flow.local.speech & ANSWERS for flow in one.flows):
        return False
    return None


def answers_of(one: Conversation, *, later: bool = False) -> int:
    """The speech bits that are answers where the remote end sends them; `later`: within a session too."""
    if one.remote_port != QUIC_PORT or one.local_port == QUIC_PORT:
        return ANSWERS
    return ANSWERS | QUIC_LONG | QUIC_INITIAL | (QUIC_SHORT if later else 0)
