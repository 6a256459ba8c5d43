"""A capture read by several processes gives what one gives, whatever it holds and whatever becomes of them."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import struct
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.capture.ng import block, interface, packet, section, statistics
from tests.capture.test_resync import PCAP, PCAPNG
from tests.store.shared import in_order
from tests.store.test_sharing import damaged, fragmented, late_interface

from backscatter.capture.limits import Limits
from backscatter.capture.reader import Reader
from backscatter.cli.main import cli
from backscatter.decode.columns import PLACE_BITS
from backscatter.decode.decoder import Decoder
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.flow import abreast, builder, cores
from backscatter.flow.abreast import Abreast
from backscatter.flow.read import Piece, read_sensor

T = 1174413859731091000


@pytest.fixture
def small(monkeypatch):
    """As if captures were large: everything is worth the while. Tells how many stretches were joined."""
    monkeypatch.setattr(abreast, "ALONE", 500)
    monkeypatch.setattr(abreast, "LEAST_STRETCH", 200)
    monkeypatch.setattr(abreast, "TAIL", 1500)
    monkeypatch.setitem(builder.FlowBuilder.__init__.__kwdefaults__, "lot", 16)
    monkeypatch.setattr(cores, "WORTH", 1)
    joined = []
    join = Abreast._join
    monkeypatch.setattr(Abreast, "_join", lambda self, told, *more: joined.append(told) or join(self, told, *more))
    return joined


def read(path, processes, limits=None):
    return read_sensor("s", [Piece("capture", lambda: path.open("rb"))], limits, processes=processes)


def same(tmp_path, body, processes=3, limits=None):
    """Hold what several processes read equal to what one reads; returns it."""
    path = tmp_path / "capture"
    path.write_bytes(body)
    one, several = read(path, 1, limits), read(path, processes, limits)
    for name in one.table.rows.dtype.names:
        mine, theirs = several.table.rows[name], one.table.rows[name]
        if name in ("scope", "tunnels"):  # numbers follow the blocks in which packets were decoded, names are the same
            names = [getattr(found.table, name.removesuffix("s") + "s") for found in (several, one)]
            mine, theirs = ([known[at] for at in numbers] for known, numbers in zip(names, (mine, theirs), strict=True))
            assert mine == theirs
            continue
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_array_equal(several.table.quotes, one.table.quotes)
    if not in_order(body):  # gaps are taken within blocks, in the order of time, and blocks end elsewhere
        gap = one.censuses[0].median_gap
        several = dataclasses.replace(
            several, censuses=tuple(dataclasses.replace(told, median_gap=gap) for told in several.censuses)
        )
    assert several.censuses == one.censuses
    (mine,), (theirs,) = several.pieces, one.pieces
    assert mine.layout.to_json() == theirs.layout.to_json()
    assert (mine.damage, mine.dropped, mine.expanded, str(mine.error)) == (
        theirs.damage,
        theirs.dropped,
        theirs.expanded,
        str(theirs.error),
    )
    return several


@pytest.mark.parametrize("body", [PCAP, PCAPNG], ids=["pcap", "pcapng"])
@pytest.mark.parametrize("processes", [2, 3, 7])
def test_every_stretch_of_an_ordinary_capture_is_read_once(small, tmp_path, body, processes):
    assert len(same(tmp_path, body, processes).table) > 2
    assert len(small) == processes - 1


def test_several_rounds(small, monkeypatch, tmp_path):
    monkeypatch.setattr(abreast, "BATCH", 30)
    same(tmp_path, PCAP)
    assert len(small) > 4


def test_a_round_ends_where_packets_are_far_more_than_was_to_be_expected(small, monkeypatch, tmp_path):
    monkeypatch.setattr(abreast, "BATCH", 200)
    monkeypatch.setattr("backscatter.capture.reader.CHUNK", 1000)
    stopped, stop = [], Reader.stop
    monkeypatch.setattr(Reader, "stop", lambda reader: stopped.append(reader) or stop(reader))
    long, short = (
        [ether(tcp("192.0.2.1", n % 9, "10.0.0.5", 80, "A", seq=n, payload=bytes(size))) for n in range(count)]
        for size, count in ((1400, 9), (0, 900))
    )
    same(
        tmp_path,
        pcap([(T + n * 10**6, frame) for n, frame in enumerate(long + short)]),
        limits=Limits(record_bytes=1500),
    )
    assert stopped


def test_flows_go_out_between_rounds(small, monkeypatch, tmp_path):
    """Also where another process builds some of them, and hands back what has to be known of the others."""
    monkeypatch.setattr(abreast, "BATCH", 60)
    monkeypatch.setitem(builder.FlowBuilder.__init__.__kwdefaults__, "batch", 60)
    frames = [
        ether(tcp(f"192.0.2.{n % 9}", 1000 + n % 40, "10.0.0.5", 80, "A", seq=n, payload=bytes(n % 7)))
        for n in range(600)
    ]
    same(tmp_path, pcap([(T + n * 10**9, frame) for n, frame in enumerate(frames)]))
    assert len(small) > 4


def test_every_piece_of_a_sensor_is_shared_out(small, tmp_path):
    frames = [
        ether(tcp(f"192.0.2.{n % 9}", 1000 + n % 40, "10.0.0.5", 80, "A", seq=n, payload=bytes(n % 7)))
        for n in range(300)
    ]
    paths = [tmp_path / f"{number}.pcap" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(pcap([(T + n * 10**6, frames[n]) for n in range(100 * number, 100 * number + 100)]))
    pieces = [Piece(path.name, partial(path.open, "rb")) for path in paths]
    one, several = read_sensor("s", pieces), read_sensor("s", pieces, processes=3)
    assert len(small) == 6
    assert (one.table.rows == several.table.rows).all()
    places = one.table.rows["src_places"]
    assert {0, 1, 2} <= set((places[places >= 0] >> PLACE_BITS).tolist())
    assert (one.censuses, len(one.censuses)) == (several.censuses, 3)


def test_scopes_have_this_process_numbers(small, tmp_path):
    frames = [ether(tcp("192.0.2.1", 7, "192.0.2.2", 80, "A"), vlan=(tag,)) for tag in range(1, 60)]
    random.Random(1).shuffle(frames)
    found = same(tmp_path, pcap([(T + n * 1000, one) for n, one in enumerate(frames)]))
    assert len(set(found.table.rows["scope"].tolist())) == 59
    assert len(small) == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_the_same_damage(small, tmp_path, data):
    same(tmp_path, damaged(data), data.draw(st.integers(2, 4)))


@pytest.mark.parametrize("at", range(15_000, 45_000, 3000))
def test_damage_in_one_place_leaves_the_rest_to_all(small, monkeypatch, tmp_path, at):
    monkeypatch.setattr(abreast, "BATCH", 30)
    same(tmp_path, PCAP)
    undamaged = len(small)
    same(tmp_path, PCAP[:at] + b"\xff" * 24 + PCAP[at + 24 :])
    assert 2 * undamaged - 4 <= len(small)


def test_a_capture_that_is_cut_short_is_told_so_once(small, tmp_path):
    found = same(tmp_path, PCAP[:-5])
    assert len(found.pieces[0].damage) == 1
    assert len(small) == 2


def test_an_interface_that_is_described_late(small, tmp_path):
    same(tmp_path, late_interface())
    assert small  # behind it


def test_simple_packets_get_the_time_of_the_packet_before(small, tmp_path):
    frame = ether(tcp("192.0.2.1", 5, "192.0.2.2", 80, "A", payload=bytes(60)))
    simple = b"".join(block(3, struct.pack("<I", len(frame)) + frame) for _ in range(60))
    same(tmp_path, section() + interface(resolution=9) + packet(frame, T) + simple + packet(frame, T + 5))
    assert not small


def test_what_interfaces_say_was_dropped(small, tmp_path):
    frame = ether(tcp("192.0.2.1", 5, "192.0.2.2", 80, "A", payload=bytes(60)))
    some = b"".join(packet(frame, T + n) for n in range(40))
    told = statistics(0, ifdrop=3, osdrop=4)
    found = same(tmp_path, section() + interface(resolution=9) + some + some + told + some, 2)
    assert found.pieces[0].dropped == 7
    assert len(small) == 1


def test_a_fragment_finds_its_first_one(small, tmp_path):
    for extra in range(40):
        same(tmp_path, fragmented(40 + extra), 2)
    assert 0 < len(small) < 40


def test_a_limit_ends_the_reading(small, tmp_path):
    same(tmp_path, PCAP, limits=Limits(expanded_bytes=5000))
    assert not small


@pytest.mark.parametrize("failing", ["fork", "decode", "threads"])
def test_whatever_becomes_of_the_others(small, monkeypatch, tmp_path, failing):
    here, decode = os.getpid(), Decoder.decode

    def only_here(self, *given):
        if os.getpid() != here:
            raise MemoryError
        return decode(self, *given)

    def no_room():
        raise BlockingIOError

    if failing == "fork":
        monkeypatch.setattr(os, "fork", no_room)
    elif failing == "decode":
        monkeypatch.setattr(Decoder, "decode", only_here)
    else:
        monkeypatch.setattr(abreast, "may_fork", lambda: False)
    same(tmp_path, PCAP)
    assert not small


def test_packets_come_through_the_pipe_where_there_is_no_room_on_disk(small, monkeypatch, tmp_path):
    asked = []

    def full(*given):
        asked.append(given)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    same(tmp_path, PCAP)
    assert asked
    assert len(small) == 2


def test_nobody_is_left_behind_when_this_process_gives_up(small, monkeypatch, tmp_path):
    forked, fork, decode = [], os.fork, Decoder.decode
    monkeypatch.setattr(os, "fork", lambda: forked.append(fork()) or forked[-1])

    def fails(self, *given):
        if forked and forked[-1]:
            raise RuntimeError
        return decode(self, *given)

    monkeypatch.setattr(Decoder, "decode", fails)
    path = tmp_path / "capture"
    path.write_bytes(PCAP)
    with pytest.raises(RuntimeError):
        read(path, 3)
    assert len(forked) == 2
    for process in forked:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


def test_a_system_that_waits_for_processes_itself(small, tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        same(tmp_path, PCAP)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert len(small) == 2


def test_a_filter_on_a_capture_without_flows(small, monkeypatch, tmp_path):
    monkeypatch.setattr("backscatter.cli.local.cores", lambda: 3)
    path = tmp_path / "arp.pcap"
    path.write_bytes(pcap([(T + n, bytes(12) + bytes.fromhex("0806") + bytes(46)) for n in range(99)]))
    result = CliRunner().invoke(cli, ["flows", str(path), "--port", "80"])
    assert (result.exit_code, result.exception) == (0, None)
    assert len(small) == 2


REAL = ["ncsa__backscatter-192.150.186.pcap", "libtrace__vxlan.pcap", "nDPI__teredo.pcap", "libtrace__qinq.pcap"]


@pytest.mark.parametrize(
    "name", [*REAL, "pcapnggen__output_be-difficult-test202.pcapng", "nDPI__http_asymmetric.pcapng"]
)
def test_real_captures(small, captures, tmp_path, name):
    same(tmp_path, (captures / name).read_bytes())
