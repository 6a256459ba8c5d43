"""The loss estimate: silent about whole conversations, however they were delivered, and awake to what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.flow.made import packets

from backscatter.decode.columns import ACK, FIN, RST, SYN
from backscatter.flow.build import build_flows


@dataclass
class Connection:
    """A simulated conversation: both sides' numbers are kept right, every packet is acknowledged in the end."""

    isn: tuple[int, int]
    rows: list[dict] = field(default_factory=list)
    sent: list[int] = field(default_factory=lambda: [0, 0])  # bytes of sequence space used
    heard: list[int] = field(default_factory=lambda: [0, 0])  # what each side has acknowledged of the other

    def send(self, way: int, flags: str, size: int = 0, *, seq: int | None = None, acks: bool = True) -> None:
        at = self.sent[way] if seq is None else seq
        letters = {"S": SYN, "A": ACK, "F": FIN, "R": RST}
        if acks and "A" in flags:
            self.heard[way] = self.sent[1 - way]
        row = {
            "way": way,
            "flags": sum(letters[letter] for letter in flags),
            "seq": (self.isn[way] + at) % 2**32,
            "ack": (self.isn[1 - way] + self.heard[way]) % 2**32 if "A" in flags else 0,
            "payload": size,
        }
        self.rows.append(row)
        if seq is None:
            self.sent[way] += size + ("S" in flags) + ("F" in flags)

    def table(self, rows=None):
        rows = self.rows if rows is None else rows
        return build_flows(packets([row | {"t": i / 100} for i, row in enumerate(rows)]), ("",), ((),))


isns = st.tuples(*[st.sampled_from([0, 5, 2**31 - 3, 2**32 - 1, 2**32 - 2000, 4_000_000_000])] * 2)
exchange = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 100, 536, 1460]), st.booleans()), max_size=12)
closing = st.sampled_from(["fin", "simultaneous", "rst", "open"])


def connection(isn, talk, close) -> Connection:
    one = Connection(isn)
    one.send(0, "S")
    one.send(1, "SA")
    one.send(0, "A")
    for way, size, answered in talk:
        one.send(way, "A", size)
        if answered:
            one.send(1 - way, "A")
    if close in ("fin", "simultaneous"):
        one.send(0, "FA")
        one.send(1, "FA", acks=close == "fin")
        one.send(0, "A")
        one.send(1, "A")
    elif close == "rst":
        one.send(0, "RA")
    else:
        one.send(0, "A")
        one.send(1, "A")
    return one


def lost(table) -> int:
    return int(table.rows["src_lost"].sum() + table.rows["dst_lost"].sum())


@settings(max_examples=150, deadline=None)
@given(isns, exchange, closing, st.data())
def test_a_whole_conversation_has_lost_nothing_however_it_was_sent_again_or_reordered(isn, talk, close, data):
    rows = connection(isn, talk, close).rows
    for _ in range(data.draw(st.integers(0, 3))):  # retransmissions
        rows = [*rows, rows[data.draw(st.integers(0, len(rows) - 1))]]
    for _ in range(data.draw(st.integers(0, 3))):  # neighbours delivered in the wrong order
        at = data.draw(st.integers(0, len(rows) - 2))
        rows[at], rows[at + 1] = rows[at + 1], rows[at]
    table = Connection(isn).table(rows)
    assume(len(table) == 1)  # a SYN delivered behind the RST is another flow, by its rule
    assert lost(table) == 0


@settings(max_examples=150, deadline=None)
@given(isns, exchange, st.sampled_from(["fin", "simultaneous", "open"]), st.data())
def test_any_acknowledged_segment_that_is_missing_is_noticed(isn, talk, close, data):
    rows = connection(isn, talk, close).rows
    takes = [i for i, row in enumerate(rows) if row["payload"] or row["flags"] & (SYN | FIN)]
    gone = data.draw(st.sampled_from(takes))
    # a side of which nothing else was captured says nothing
    assume(any(row["way"] == rows[gone]["way"] for i, row in enumerate(rows) if i != gone))
    table = Connection(isn).table(rows[:gone] + rows[gone + 1 :])
    assert lost(table) >= 1
    assert len(table) == 1


@settings(max_examples=60, deadline=None)
@given(isns, exchange, st.integers(1, 20))
def test_a_capture_that_begins_in_the_middle_has_lost_nothing(isn, talk, begin):
    rows = connection(isn, talk, "fin").rows
    assume(begin < len(rows))
    # without the SYN+ACK nothing says where the conversation began
    assume(begin >= 2)
    assert lost(Connection(isn).table(rows[begin:])) == 0


def test_bytes_are_counted_in_segments_of_the_side_that_lost_them():
    one = Connection((7, 9))
    one.send(0, "S")
    one.send(1, "SA")
    one.send(0, "A")
    for _ in range(10):
        one.send(1, "A", 1000)
    one.send(0, "A")
    rows = one.rows[:5] + one.rows[8:]
    row = one.table(rows).rows[0]
    assert (row["dst_lost"], row["dst_segments"]) == (3, 11)


def test_keep_alive_probes_and_far_acks_are_no_loss():
    one = Connection((7, 9))
    one.send(0, "A", seq=-1)  # the capture begins with a probe
    one.send(1, "A")
    one.send(0, "A", 50)
    one.send(1, "A")
    one.rows.append({"way": 1, "flags": ACK, "seq": 9, "ack": (7 + 2**31 - 5) % 2**32})
    assert lost(one.table()) == 0


def test_nothing_is_said_where_only_one_direction_was_captured():
    rows = [row for row in connection((1, 1), [(0, 100, True)] * 3, "fin").rows if row["way"] == 0]
    row = Connection((1, 1)).table(rows).rows[0]
    assert (row["src_segments"], row["dst_segments"]) == (0, 0)


def test_backscatter_says_nothing_of_loss():
    rows = [{"way": 1, "flags": SYN | ACK, "seq": 5, "ack": 77}, {"way": 0, "flags": RST, "seq": 77}]
    row = Connection((1, 1)).table(rows).rows[0]
    assert (row["src_segments"], row["dst_segments"], lost(Connection((1, 1)).table(rows))) == (0, 0, 0)


def test_a_conversation_may_run_round_the_sequence_space():
    rows, at = [], 0
    for _ in range(6):
        rows.append({"way": 0, "flags": ACK, "seq": at % 2**32, "ack": 1, "payload": 2**30 - 1})
        at += 2**30 - 1
        rows.append({"way": 1, "flags": ACK, "seq": 1, "ack": at % 2**32})
    assert lost(Connection((0, 0)).table(rows)) == 0
    assert lost(Connection((0, 0)).table(rows[:6] + rows[7:])) == 1


def gaps(rows) -> str:
    history = Connection((0, 0)).table(rows).rows["history"][0].decode()
    return "".join(letter for letter in history if letter in "Gg")


def test_a_gap_is_written_when_the_ack_shows_it_and_not_before():
    rows = connection((5, 5), [(1, 100, True)] * 4, "open").rows
    missing = rows[:5] + rows[6:]
    assert gaps(rows) == ""
    assert gaps(missing[:5]) == ""
    assert gaps(missing) == "g"


def test_data_captured_behind_its_ack_is_a_gap_as_zeek_sees_it_but_no_loss():
    rows = connection((5, 5), [(1, 100, True)] * 4, "open").rows
    rows[5], rows[6] = rows[6], rows[5]
    assert gaps(rows) == "g"
    assert lost(Connection((5, 5)).table(rows)) == 0


def test_gaps_behind_a_reset_or_without_a_handshake_are_not_written():
    rows = connection((5, 5), [(1, 100, True)] * 4, "open").rows
    assert gaps(rows[2:5] + rows[6:]) == ""
    assert gaps([*rows[:5], {"way": 0, "flags": RST, "seq": 6}, *rows[6:]]) == ""
