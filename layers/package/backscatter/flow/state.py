"""Zeek's TCP endpoint states and its conn_state, for roles that are never flipped: src is the originator.

Zeek (src/packet_analysis/protocol/tcp/TCPSessionAdapter.cc) moves a state per side with every packet. What it ends in
follows from a few facts a flow, found here by position in the order of (flow, time):

- A side is *open* until its first packet with FIN or RST, its *close*. While open it is INACTIVE, SYN_SENT,
  SYN_ACK_SENT, PARTIAL or ESTABLISHED; only the responder's first counted packet, its *answer*, and SYNs change that.
- At its close it becomes CLOSED (FIN alone) or RESET. A CLOSED side's later RST makes it RESET unless the other side is
  CLOSED by then. It is turned back to CLOSED when the other side, that was PARTIAL or ESTABLISHED, then closes by
  FIN alone. Nothing else ever changes.

One deviation, since roles stay: where Zeek flips a SYN+ACK that is followed by the SYN that it acknowledges, both sides
become ESTABLISHED without the flip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import ACK, FIN, RST, SYN
from backscatter.flow.runs import run_starts
from backscatter.flow.table import CONN_STATES, FLOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flow.halves import Halves
    from backscatter.flow.runs import Bools, Ints

INACTIVE, SYN_SENT, SYN_ACK_SENT, PARTIAL, ESTABLISHED, CLOSED, RESET = range(7)

#: A position behind every packet: it never happened.
NEVER = np.iinfo(np.int64).max


class Endpoints(NamedTuple):
    """Where the states of every side change. Positions are as in Traffic.pos; NEVER where it does not happen.

    close        (flows, 2) position of each side's first packet with FIN or RST
    reset_from   (flows, 2) position from which it is RESET
    reset_until  (flows, 2) position at which the other side's FIN turned it back to CLOSED
    established  (flows,) position of the SYN by which both sides became ESTABLISHED
    state        (flows, 2) the states at the end
    """

    close: Ints
    reset_from: Ints
    reset_until: Ints
    established: Ints
    state: NDArray[np.uint8]

    def only(self, flows: Bools) -> Endpoints:
        """Of the flows that a mask picks."""
        return Endpoints(
            self.close[flows],
            self.reset_from[flows],
            self.reset_until[flows],
            self.established[flows],
            self.state[flows],
        )


def endpoints(halves: Halves) -> Endpoints:
    """The states of both sides of every flow."""
    flags, control = halves.flags, halves.control
    control_flags = flags[control]
    closing = control[(control_flags & (FIN | RST)) != 0]
    closes = halves.first(closing)
    close = halves.at(closes, halves.pos[closes], NEVER).reshape(-1, 2)
    close_flags = halves.at(closes, flags[closes]).reshape(-1, 2)
    first = halves.dense(halves.pos[halves.start], NEVER).reshape(-1, 2)
    first_flags = halves.dense(flags[halves.start]).reshape(-1, 2)[:, 0]

    # The originator says SYN with its first packet, or after other packets while nobody has answered.
    opener = first_flags & (SYN | FIN | RST | ACK)
    syns = halves.first(control[(control_flags & (SYN | ACK)) == SYN])
    late_syn = halves.at(syns, halves.pos[syns], NEVER).reshape(-1, 2)[:, 0]
    late = ((opener & (SYN | FIN | RST)) == 0) & (late_syn < first[:, 1]) & (late_syn < close[:, 0])
    says_syn = ((opener & (SYN | ACK)) == SYN) | late

    # The responder's answer is its first packet, but Zeek skips bare ones while the originator's SYN stands unanswered.
    substance = halves.data.copy()
    substance[control] = True
    speaks = halves.first(np.flatnonzero(substance))
    speaking = halves.at(speaks, halves.pos[speaks], NEVER).reshape(-1, 2)[:, 1]
    skipping = says_syn & (first[:, 1] < speaking) & (close[:, 0] < speaking)
    answer = np.where(says_syn, np.minimum(speaking, _after_close(halves, close[:, 0], skipping)), first[:, 1])
    by_syn = (answer == speaking) & ((halves.at(speaks, flags[speaks]).reshape(-1, 2)[:, 1] & SYN) != 0)
    by_syn &= answer != NEVER

    met = by_syn & (answer < close[:, 0])
    reversal = _reversal(halves, opener, answer, speaks)
    established = np.where(met & (says_syn | reversal), answer, NEVER)
    open_state = np.empty((len(answer), 2), np.uint8)
    open_state[:, 0] = np.where((opener & SYN) != 0, np.uint8(SYN_ACK_SENT), np.uint8(PARTIAL))
    open_state[says_syn, 0] = SYN_SENT
    open_state[established != NEVER, 0] = ESTABLISHED
    open_state[:, 1] = np.where(by_syn, np.uint8(ESTABLISHED), np.uint8(PARTIAL))
    open_state[answer == NEVER, 1] = INACTIVE
    before_close = open_state.copy()
    before_close[close[:, 0] == first[:, 0], 0] = INACTIVE
    before_close[close[:, 1] == answer, 1] = INACTIVE
    resets = control[(control_flags & RST) != 0]
    reset_from, reset_until = _resets(halves, close, close_flags, before_close, resets)
    state = np.where(close != NEVER, np.uint8(CLOSED), open_state)
    state[(reset_from != NEVER) & (reset_until == NEVER)] = RESET
    return Endpoints(close, reset_from, reset_until, established, state)


def _after_close(halves: Halves, close: Ints, flows: Bools) -> Ints:
    """Position of dst's first packet behind the close of src, for the flows of a mask; NEVER for the others."""
    position = np.full(len(flows), NEVER)
    if flows.any():
        begin, end = halves.begin[1::2][flows], halves.end[1::2][flows]
        owner = np.repeat(np.flatnonzero(flows), end - begin)
        skipped = np.repeat(begin - (np.cumsum(end - begin) - (end - begin)), end - begin)
        pos = halves.pos[skipped + np.arange(len(owner))]
        behind = pos > close[owner]
        owner, pos = owner[behind], pos[behind]
        first = run_starts(owner)
        position[owner[first]] = pos[first]
    return position


def _reversal(halves: Halves, opener: NDArray[Any], answer: Ints, speaks: Ints) -> Bools:
    """Flows that begin with a SYN+ACK and are answered by the very SYN that it acknowledges."""
    answering = speaks[(halves.half[speaks] & 1) == 1]
    flow = halves.half[answering] >> 1
    pure = (halves.flags[answering] & (SYN | ACK)) == SYN
    asked = halves.dense(halves.ack[halves.start]).reshape(-1, 2)[:, 0]
    fits = pure & (halves.pos[answering] == answer[flow]) & (halves.seq[answering] + np.uint32(1) == asked[flow])
    reversal = np.zeros(len(answer), np.bool_)
    reversal[flow[fits]] = True
    reversal &= (opener & (SYN | ACK)) == (SYN | ACK)
    return reversal


def _resets(
    halves: Halves, close: Ints, close_flags: NDArray[np.uint8], before_close: NDArray[np.uint8], resets: Ints
) -> tuple[Ints, Ints]:
    """From which position each side is RESET, and where the other side's FIN made it CLOSED again."""
    by_fin = (close != NEVER) & ((close_flags & RST) == 0)
    other = close[:, ::-1]
    behind = halves.first(resets[halves.pos[resets] > close.reshape(-1)[halves.half[resets]]])
    again = halves.at(behind, halves.pos[behind], NEVER).reshape(-1, 2)  # the first RST behind the close
    is_first = close < other
    early = by_fin & is_first & (again < other)
    # FIN+RST of a side that had not got beyond its SYN passes through CLOSED, so a FIN can turn it back too.
    through_closed = (close_flags & (FIN | RST)) == (FIN | RST)
    through_closed &= before_close <= SYN_ACK_SENT
    healing = by_fin & ((before_close == PARTIAL) | (before_close == ESTABLISHED))
    healed = is_first & (early | through_closed) & healing[:, ::-1]
    reset_from = np.where((close != NEVER) & ~by_fin, close, NEVER)
    reset_from = np.where(early, again, reset_from)
    # Behind both closes: a CLOSED side is reset by its RST where the other side is RESET for good.
    other_reset = ((reset_from != NEVER) & ~healed)[:, ::-1]
    late = by_fin & ~early & other_reset & (again != NEVER)
    reset_from = np.where(late, again, reset_from)
    return reset_from, np.where(healed, other, NEVER)


def conn_states(ends: Endpoints, histories: NDArray[np.bytes_], data: Ints) -> NDArray[np.uint8]:
    """Zeek's conn_state of every flow as an index into CONN_STATES.

    The definitions of scripts/base/protocols/conn/main.zeek. Where Zeek asks whether any bytes were sent by its
    sequence numbers, we ask for packets with payload (RST off); `data` counts them for each half.
    """
    orig, resp = ends.state[:, 0], ends.state[:, 1]
    silent = data.reshape(-1, 2).sum(axis=1) == 0
    code: NDArray[np.uint8] = _CODES[orig, resp, silent.view(np.uint8)]
    half_open = np.flatnonzero(code == CONN_STATES.index("RSTOS0"))
    other = half_open[~_only_syn_before_rst(histories[half_open])]
    code[other] = CONN_STATES.index("OTH")
    return code


def state_code(orig: int, resp: int, *, silent: bool, history: bytes) -> str:
    """The conn_state of one flow whose sides end in these states. `silent`: nobody sent payload."""
    code = int(_CODES[orig, resp, int(silent)])
    if CONN_STATES[code] == "RSTOS0" and not _only_syn_before_rst(np.array([history], FLOW["history"]))[0]:
        return "OTH"
    return CONN_STATES[code]


def _codes() -> NDArray[np.uint8]:
    """conn_state by (state of src, state of dst, whether no payload was sent); RSTOS0 where its history may say OTH."""
    orig, resp, silent = np.indices((RESET + 1, RESET + 1, 2))
    orig_idle, resp_idle = ((side == INACTIVE) | (side == PARTIAL) for side in (orig, resp))
    resp_reset, orig_reset = resp == RESET, orig == RESET
    orig_closed, resp_closed = orig == CLOSED, resp == CLOSED
    rejected = (orig == SYN_SENT) | (orig == SYN_ACK_SENT) | (orig_reset & (silent == 1))
    rows: list[tuple[NDArray[np.bool_], str]] = [
        (resp_reset & rejected, "REJ"),
        (resp_reset & orig_idle, "RSTRH"),
        (resp_reset, "RSTR"),
        (orig_reset & resp_idle, "RSTOS0"),
        (orig_reset, "RSTO"),
        (orig_closed & resp_closed, "SF"),
        (orig_closed & resp_idle, "SH"),
        (orig_closed, "S2"),
        (resp_closed & orig_idle, "SHR"),
        (resp_closed, "S3"),
        ((orig == SYN_SENT) & (resp == INACTIVE), "S0"),
        ((orig == ESTABLISHED) & (resp == ESTABLISHED), "S1"),
    ]
    codes = np.select(
        [mask for mask, _ in rows], [CONN_STATES.index(name) for _, name in rows], CONN_STATES.index("OTH")
    )
    return codes.astype(np.uint8)


_CODES = _codes()

#: Letters that say more than a SYN or an RST.
_SPEAKS = np.isin(np.arange(256), tuple(b"HAFGIQ"))


def _only_syn_before_rst(histories: NDArray[np.bytes_]) -> Bools:
    """Which histories match Zeek's pattern S[^HAFGIQ]*R.*: src began with SYN and said nothing else before its RST."""
    letters = histories.view(np.uint8).reshape(len(histories), histories.itemsize)
    only: Bools = letters[:, 0] == ord("S")
    letters = letters[only]
    rst, other = letters == ord("R"), _SPEAKS[letters]
    before = ~other.any(axis=1) | (rst.argmax(axis=1) < other.argmax(axis=1))
    only[only] = rst.any(axis=1) & before
    return only
