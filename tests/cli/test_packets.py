"""`backscatter packets`."""

import json
import struct
from itertools import pairwise

import pytest
from click.testing import CliRunner
from tests.capture import ng
from tests.cli import case
from tests.cli.schema import PACKET, faults

from backscatter.capture import reader
from backscatter.cli.main import cli
from backscatter.demo.wire import RAW_IP, ether, ip, tcp

LINES = """\
2007-03-20 18:04:19.731091000 IP 193.109.122.67.6667 > 69.143.202.28.1024: Flags [S.], seq 4257997451, ack 2934031229, win 2048, length 0
2007-03-20 18:04:19.731429000 IP 69.143.202.28.1024 > 193.109.122.67.6667: Flags [R], seq 2934031229, win 0, length 0
2007-03-20 20:17:14.482305000 IP 193.109.122.67.6667 > 69.143.202.28.3072: Flags [S.], seq 3118402257, ack 1715937612, win 2048, length 0
2007-03-20 20:17:14.482661000 IP 69.143.202.28.3072 > 193.109.122.67.6667: Flags [R], seq 1715937612, win 0, length 0
"""


def packets(*arguments: str):
    result = CliRunner().invoke(cli, ["packets", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def lines(*arguments: str) -> list[str]:
    result = packets(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.fixture
def day(tmp_path):
    return case.write(tmp_path / "day.pcap", case.day())


def test_packets_are_printed_as_tcpdump_does(tmp_path):
    assert packets(case.write(tmp_path / "case.pcap", case.pairs())).stdout == LINES


def test_a_filter_leaves_the_same_packets_of_a_large_day(day):
    assert packets(day, "--host", case.REMOTE).stdout == LINES
    assert packets(day, "--port", "1024", "--port", "3072", "--proto", "tcp").stdout == LINES


def test_a_community_id_picks_the_packets_of_its_conversation_both_ways(day):
    assert lines(day, "--flow", case.COMMUNITY_IDS[1]) == LINES.splitlines()[2:]


def test_a_fragment_of_no_conversation_is_no_packet_of_another(tmp_path):
    later = ip(case.LOCAL, case.REMOTE, 6, b"rest", fragment=100)
    path = case.write(tmp_path / "c.pcap", [(1, ether(later)), *case.pairs()])
    assert lines(path, "--flow", case.COMMUNITY_IDS[0]) == LINES.splitlines()[:2]


def fragments() -> list[bytes]:
    """A segment of the first conversation with payload, in three fragments, the last one first."""
    data = tcp(case.REMOTE, 6667, case.LOCAL, 1024, "PA", payload=bytes(60))[20:]
    parts = [
        ip(case.REMOTE, case.LOCAL, 6, data[at:end], ip_id=7, fragment=(end < len(data)) << 13 | at // 8)
        for at, end in pairwise([0, 24, 56, len(data)])
    ]
    return [ether(part) for part in reversed(parts)]


@pytest.mark.parametrize("most", [2, 100])
def test_fragments_are_packets_of_the_conversation_of_their_first_one(tmp_path, monkeypatch, most):
    monkeypatch.setattr(reader, "MOST_RECORDS", most)
    records = [(case.AT + n, frame) for n, frame in enumerate(fragments())]
    whole = case.write(tmp_path / "whole.pcap", records)
    found = lines(whole, "--flow", case.COMMUNITY_IDS[0])
    assert len(found) == 3
    one, two = (case.write(tmp_path / f"{n}.pcap", part) for n, part in enumerate((records[:1], records[1:])))
    assert lines(two, one, "--flow", case.COMMUNITY_IDS[0]) == found


def test_times_order_packets_whatever_the_order_of_records_and_files(tmp_path):
    first = case.write(tmp_path / "a.pcap", [case.pairs()[i] for i in (3, 0)])
    second = case.write(tmp_path / "b.pcap", [case.pairs()[i] for i in (2, 1)])
    assert packets(second, first).stdout == LINES


def test_packets_of_one_time_keep_the_order_of_the_file(tmp_path):
    frames = [ether(tcp(case.LOCAL, 1000 + n, case.REMOTE, 80, "S")) for n in range(50)]
    path = case.write(tmp_path / "c.pcap", [(7, frame) for frame in frames])
    ports = [int(line.split()[3].rpartition(".")[2]) for line in lines(path)]
    assert ports == list(range(1000, 1050))


def test_json_says_where_each_packet_lies(tmp_path):
    path = case.write(tmp_path / "c.pcap", case.pairs())
    found = [json.loads(line) for line in lines(path, "--json")]
    assert [faults(one, PACKET) for one in found] == [[]] * 4
    assert [one["offset"] for one in found] == [24 + 70 * n for n in range(4)]
    assert {one["capture"] for one in found} == {path}


@pytest.mark.parametrize("linktype", [1, RAW_IP])
def test_written_packets_are_a_nanosecond_pcap_of_the_same_link_type(tmp_path, linktype):
    records = [(at + 7, frame if linktype == 1 else frame[14:]) for at, frame in case.day()]
    day, out = case.write(tmp_path / "day.pcap", records, linktype=linktype), tmp_path / "out.pcap"
    result = packets(day, "--host", case.REMOTE, "--write", str(out))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "4 packets" in result.stderr
    expected = [(at + 7, frame if linktype == 1 else frame[14:]) for at, frame in case.pairs()]
    case.write(tmp_path / "expected.pcap", expected, linktype=linktype)
    assert out.read_bytes() == (tmp_path / "expected.pcap").read_bytes()


def test_a_cut_packet_is_written_with_its_length_on_the_wire(tmp_path):
    path, out = case.write(tmp_path / "c.pcap", case.pairs(), snaplen=48), tmp_path / "out.pcap"
    packets(path, "--write", str(out))
    assert struct.unpack_from("<II", out.read_bytes(), 24 + 8) == (48, 54)


def test_written_packets_of_several_files_are_in_time_order(tmp_path):
    records = case.day()
    names = [case.write(tmp_path / f"{n}.pcap", records[n::3]) for n in range(3)]
    packets(*names, "--write", str(tmp_path / "out.pcap"))
    times = [line[:29] for line in lines(str(tmp_path / "out.pcap"))]
    assert len(times) == len(records)
    assert all(one <= other for one, other in pairwise(times))


def test_packets_of_several_link_types_do_not_fit_one_pcap(tmp_path):
    one = case.write(tmp_path / "a.pcap", case.pairs())
    other = case.write(tmp_path / "b.pcap", [(1, case.pairs()[0][1][14:])], linktype=RAW_IP)
    out = tmp_path / "out.pcap"
    result = packets(one, other, "--write", str(out))
    assert result.exit_code == 2
    assert "several link types (1, 101)" in result.stderr
    assert not out.exists()
    assert packets(one, other, "--since", "1000", "--write", str(out)).exit_code == 0


def test_only_the_link_types_of_chosen_packets_count(tmp_path, monkeypatch):
    """Also of one that waited for its first fragment while others came."""
    monkeypatch.setattr(reader, "MOST_RECORDS", 2)
    last, _, first = fragments()
    blocks = [ng.section(), ng.interface(1), ng.interface(RAW_IP)]
    blocks += [ng.packet(last, 0), ng.packet(case.pairs()[2][1][14:], 1, 1), ng.packet(first, 2)]
    (tmp_path / "c.pcapng").write_bytes(b"".join(blocks))
    out = tmp_path / "out.pcap"
    path = str(tmp_path / "c.pcapng")
    assert packets(path, "--write", str(out)).exit_code == 2
    assert "2 packets" in packets(path, "--flow", case.COMMUNITY_IDS[0], "--write", str(out)).stderr


def test_a_capture_is_never_written_over_itself(tmp_path):
    path = case.write(tmp_path / "c.pcap", case.pairs())
    before = (tmp_path / "c.pcap").read_bytes()
    result = packets(path, "--port", "1024", "--write", path)
    assert result.exit_code == 2
    assert (tmp_path / "c.pcap").read_bytes() == before


def test_a_capture_can_be_written_to_stdout(tmp_path):
    path = case.write(tmp_path / "c.pcap", case.pairs())
    code, out, err = case.run("packets", path, "--write", "/dev/stdout", "--port", "80")
    assert (code, len(out)) == (0, 24), err


def test_where_nothing_can_be_written_is_told_and_leaves_nothing(tmp_path):
    path = case.write(tmp_path / "c.pcap", case.pairs())
    result = packets(path, "--write", str(tmp_path / "nowhere" / "out.pcap"))
    assert result.exit_code == 2
    assert f"{tmp_path / 'nowhere' / 'out.pcap'}: No such file or directory" in result.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["c.pcap"]


def test_compressed_captures_are_read_alike(tmp_path):
    import gzip

    case.write(tmp_path / "c.pcap", case.pairs())
    packed = tmp_path / "c.pcap.gz"
    packed.write_bytes(gzip.compress((tmp_path / "c.pcap").read_bytes()))
    assert packets(str(packed)).stdout == LINES
