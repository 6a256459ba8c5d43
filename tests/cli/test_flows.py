"""`backscatter flows`."""

import json
import os
import random
import weakref
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli import case
from tests.cli.schema import FLOW, SUMMARY, faults

from backscatter.cli.main import cli
from backscatter.demo.wire import ether, icmp_error, tcp, udp, vxlan
from backscatter.flow.builder import FlowBuilder
from backscatter.flow.read import span_of

TABLE = """\
START                          PROTO  SRC                  DST                 PACKETS  BYTES  FLAGS  HISTORY  STATE  SCOPE
2007-03-20 18:04:19.731091000  tcp    193.109.122.67:6667  69.143.202.28:1024      1/1  40/40  SA/R   Hr       REJ
2007-03-20 20:17:14.482305000  tcp    193.109.122.67:6667  69.143.202.28:3072      1/1  40/40  SA/R   Hr       REJ
"""


def flows(*arguments: str):
    result = CliRunner().invoke(cli, ["flows", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def records(*arguments: str) -> list[dict]:
    result = flows("--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def pairs(tmp_path):
    return case.write(tmp_path / "pairs.pcap", case.pairs())


@pytest.fixture
def day(tmp_path):
    return case.write(tmp_path / "day.pcap", case.day())


def test_the_table_is_whole_and_plain_in_a_pipe(pairs):
    code, out, err = case.run("flows", pairs)
    assert (code, out, err) == (0, TABLE.encode(), "")


def test_json_gives_every_field_of_the_contract(day):
    for record in records(day):
        assert faults(record, FLOW) == []
        assert list(record)[: len(FLOW)] == list(FLOW)


def test_the_2007_pairs_are_never_flipped(pairs):
    found = records(pairs)
    assert [
        (one["src_ip"], one["src_flags"], one["dst_flags"], one["history"], one["conn_state"]) for one in found
    ] == [(case.REMOTE, "SA", "R", "Hr", "REJ")] * 2
    assert tuple(one["community_id"] for one in found) == case.COMMUNITY_IDS
    assert found[0]["tcp"] == {
        "src": {"syn_seq": None, "synack_seq": 4257997451, "synack_ack": 2934031229, "rst_seq": None, "rst_ack": None},
        "dst": {"syn_seq": None, "synack_seq": None, "synack_ack": None, "rst_seq": 2934031229, "rst_ack": 0},
    }


def test_icmp_errors_carry_what_they_quote(tmp_path):
    lost = udp(case.LOCAL, 5353, "192.0.2.9", 53)
    path = case.write(tmp_path / "c.pcap", [(1, ether(icmp_error("198.51.100.1", case.LOCAL, 3, 1, lost)))])
    [record] = records(path)
    assert faults(record, FLOW) == []
    assert (record["proto"], record["icmp_type"], record["icmp_code"]) == ("icmp", 3, 1)
    assert (record["src_port"], record["dst_port"], record["tcp"]) == (None, None, None)
    assert record["quoted"] == {
        "proto": "udp",
        "src_ip": case.LOCAL,
        "src_port": 5353,
        "dst_ip": "192.0.2.9",
        "dst_port": 53,
    }


def test_mirrored_flows_stay_in_their_scope(tmp_path):
    inner = ether(tcp(case.LOCAL, 1024, case.REMOTE, 6667, "S"))
    path = case.write(tmp_path / "c.pcap", [(1, ether(vxlan(inner, 7))), (2, ether(vxlan(inner, 8)))])
    assert [(one["scope"], one["tunnels"]) for one in records(path)] == [("vni:7", ["vxlan"]), ("vni:8", ["vxlan"])]
    assert [one["scope"] for one in records(path, "--scope", "vni:8")] == ["vni:8"]


def test_filters_repeat_as_or_and_join_as_and(day):
    both = records(day, "--port", "1024", "--port", "3072")
    assert [one["dst_port"] for one in both] == [1024, 3072]
    assert records(day, "--port", "1024", "--proto", "udp") == []
    assert records(day, "--host", f"{case.REMOTE}/31") == both
    assert records(day, "--flow", case.COMMUNITY_IDS[1]) == both[1:]
    assert records(day, "--flow", case.COMMUNITY_IDS[0], "--flow", case.COMMUNITY_IDS[1]) == both
    assert records(day, "--scope", "vlan:7") == []
    assert records(day, "--scope", "", "--port", "1024") == both[:1]


def test_since_and_until_keep_what_overlaps(day):
    window = ("--since", "2007-03-20T18:04:19.7312Z", "--until", "2007-03-20T18:04:20Z")
    [one] = records(day, "--host", case.REMOTE, *window)
    assert one["dst_port"] == 1024
    assert records(day, "--host", case.REMOTE, "--since", "1174420000") == records(day, "--port", "3072")


def test_nothing_left_by_a_filter_is_no_error(day):
    result = flows(day, "--port", "9")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


def test_lines_are_ordered_by_start_over_all_files(tmp_path):
    late = case.write(tmp_path / "a.pcap", case.pairs()[2:])
    early = case.write(tmp_path / "b.pcap", case.pairs()[:2])
    starts = [one["start"] for one in records(late, early)]
    assert starts == sorted(starts)
    assert len(starts) == 2


def test_a_conversation_cut_by_rotation_is_one_flow(tmp_path):
    packets = case.session()
    pieces = [case.write(tmp_path / f"{n}.pcap", packets[5 * n : 5 * n + 5]) for n in range(2)]
    [one] = records(*reversed(pieces))
    assert (one["src_packets"], one["dst_packets"], one["conn_state"]) == (6, 4, "SF")


def test_files_that_overlap_are_views_that_are_never_summed(tmp_path):
    packets = case.session()
    views = [case.write(tmp_path / f"{name}.pcap", packets) for name in "ab"]
    found = records(*views)
    assert [one["src_packets"] for one in found] == [6, 6]
    assert {one["sensor"] for one in found} == set(views)
    table = flows(*views).stdout.splitlines()
    assert table[0].endswith("SENSOR")
    assert {line.split()[-1] for line in table[1:]} == set(views)


def test_a_file_that_is_gone_once_it_was_looked_through_costs_only_its_sensor(tmp_path, monkeypatch):
    view, gone = (case.write(tmp_path / f"{name}.pcap", case.session()) for name in "ab")
    monkeypatch.setattr("backscatter.cli.local.span_of", _then_remove(gone))
    result = flows("--json", gone, view)
    assert result.exit_code == 1
    assert result.stderr == f"{gone}: No such file or directory\n"
    assert result.stdout == flows("--json", view).stdout


def _then_remove(name):
    def looked(piece, **more):
        span = span_of(piece, **more)
        if piece.name == name:
            Path(name).unlink()
        return span

    return looked


def test_a_summary_of_many_files_keeps_none_of_their_packets(tmp_path, monkeypatch):
    """Each is looked through for its times, and then read: never is one held until it is known where it belongs."""
    held = []
    add = FlowBuilder.add
    monkeypatch.setattr(
        FlowBuilder, "add", lambda self, packets: held.append(weakref.ref(packets["time"])) or add(self, packets)
    )
    packets = case.session() * 40
    names = [
        case.write(tmp_path / f"{n}.pcap", [(time + n * 10**10, frame) for time, frame in packets]) for n in range(9)
    ]
    monkeypatch.setitem(FlowBuilder.__init__.__kwdefaults__, "lot", 500)
    [summary] = records("--summary", *names)
    assert summary["packets"] == 9 * len(packets) == 3600
    assert len(held) == 9
    assert [times() for times in held] == [None] * 9


def test_the_summary_gives_every_field_of_the_contract(day):
    [summary] = records("--summary", day)
    assert faults(summary, SUMMARY) == []
    flows_of_the_day = len(records(day))
    assert (summary["captures"], summary["packets"], summary["flows"]) == (1, len(case.day()), flows_of_the_day)
    span = datetime.fromisoformat(summary["last"]) - datetime.fromisoformat(summary["first"])
    assert summary["seconds"] == pytest.approx(span.total_seconds())
    assert summary["store"]["items"] > 0


def test_the_summary_of_an_empty_capture_has_no_times(tmp_path):
    [summary] = records("--summary", case.write(tmp_path / "empty.pcap", []))
    assert faults(summary, SUMMARY) == []
    assert (summary["packets"], summary["first"], summary["last"], summary["seconds"]) == (0, None, None, 0)


def test_the_summary_of_a_filter_counts_what_it_leaves(day):
    [summary] = records("--summary", day, "--host", case.REMOTE)
    assert (summary["flows"], summary["packets"]) == (2, 4)
    assert summary["first"] == "2007-03-20T18:04:19.731091000Z"


def test_the_summary_counts_damage_and_what_is_no_ip(tmp_path):
    path = tmp_path / "c.pcap"
    arp = bytes.fromhex("ffffffffffff0200000000010806") + bytes(28)
    case.write(path, [(1, arp), *case.pairs()])
    path.write_bytes(path.read_bytes()[:-3])
    result = flows("--summary", "--json", str(path))
    summary = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (summary["packets"], summary["non_ip"], summary["damaged_bytes"]) == (4, 1, 16 + 54 - 3)


def test_a_summary_for_people_names_the_same_totals(day):
    assert [line.split()[0] for line in flows("--summary", day).stdout.splitlines()[1:]] == list(SUMMARY)


def test_a_small_capture_is_answered_at_once(pairs):
    took = []
    for _ in range(3):
        before = os.times()
        case.run("flows", pairs)
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(took) < 0.7, "CPU seconds: 0.3 on an idle machine; other tests share this one"


def address(chance: random.Random) -> str:
    return ".".join(str(chance.randrange(1, 250)) for _ in range(4))


def test_what_storing_many_flows_costs_is_told_from_a_sample(tmp_path, monkeypatch):
    chance = random.Random(1)
    answers = [
        (
            n * 1000 + chance.randrange(999),
            ether(tcp(address(chance), 80, address(chance), 1024, "SA", seq=seq, ack=ack)),
        )
        for n in range(6000)
        for seq, ack in [(chance.randrange(2**32), chance.randrange(2**32))]
    ]
    path = case.write(tmp_path / "many.pcap", answers)
    [whole] = records("--summary", path)
    assert whole["store"]["estimated"] is False
    monkeypatch.setattr("backscatter.flow.piles.PILE_PACKETS", 256)
    monkeypatch.setattr("backscatter.cli.sums.PACKED", 4096)
    [sampled] = records("--summary", path)
    assert sampled["store"]["estimated"] is True
    assert {**sampled, "store": None} == {**whole, "store": None}
    assert sampled["store"]["bytes"] == pytest.approx(whole["store"]["bytes"], rel=0.15)
    assert "about" in flows("--summary", path).stdout


def test_packets_far_behind_others_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("backscatter.capture.reader.MOST_RECORDS", 4)
    monkeypatch.setitem(FlowBuilder.__init__.__kwdefaults__, "batch", 4)
    packet = ether(tcp("192.0.2.1", 80, "10.0.0.5", 1024, "A"))
    path = case.write(tmp_path / "late.pcap", [*((100 * 10**9 + n, packet) for n in range(8)), (3 * 10**9, packet)])
    result = flows("--summary", path)
    assert result.exit_code == 0
    assert "late.pcap: 1 packets stand more than 3 s behind later ones" in result.stderr
