"""The vectorised decoder gives what the reference decoder gives, in every column of every packet."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.capture.reader import open_capture
from backscatter.capture.record import RecordBlock
from backscatter.decode.columns import OK, PACKET, QUOTE
from backscatter.decode.decoder import Decoder
from backscatter.demo import wire
from backscatter.demo.wire import ether, geneve, icmp, icmp_error, ip, pcap, tcp, udp, vxlan
from backscatter.errors import NotACapture

T = 1174413859731091000


def block_of(frames, linktypes=None, more=None):
    """A block of (frame, bytes on the wire) as the reader would make it, with room for nothing behind the last."""
    bodies = np.cumsum([0, *(16 + len(frame) for frame, _ in frames)])[:-1] + 16
    data = b"".join(b"\0" * 16 + frame for frame, _ in frames) + (more or b"")
    count = len(frames)
    return RecordBlock(
        np.frombuffer(data, np.uint8),
        bodies.astype(np.int64),
        np.array([len(frame) for frame, _ in frames], np.int64),
        np.array([max(len(frame), wirelen) for frame, wirelen in frames], np.int64),
        T + np.arange(count) * 1000,
        bodies.astype(np.int64) - 16,
        np.array([1] * count if linktypes is None else linktypes, np.int32),
    )


def named(packets, decoder):
    """The columns as lists, with names in the place of their numbers, and the quotes."""
    columns = {name: packets[name].tolist() for name in PACKET}
    columns["scope"] = [decoder.scopes.values[number] for number in columns["scope"]]
    columns["tunnels"] = [decoder.tunnels.values[number] for number in columns["tunnels"]]
    return columns | {"quotes": packets.quotes.tolist()}


class Pair:
    """Both decoders, given the same blocks one after the other."""

    def __init__(self):
        self.vectorised, self.reference = Decoder(), Decoder(vectorised=False)

    def differing(self, block):
        """(column, packet, vectorised, reference) of every difference; the dtypes of the columns must be the same."""
        mine, theirs = self.vectorised.decode(block, 1), self.reference.decode(block, 1)
        assert {name: column.dtype for name, column in mine.columns.items()} == {
            name: np.dtype(form) for name, (form, _) in PACKET.items()
        }
        assert mine.quotes.dtype == QUOTE
        mine, theirs = named(mine, self.vectorised), named(theirs, self.reference)
        return [
            (name, index, a, b)
            for name in theirs
            if mine[name] != theirs[name]
            for index, (a, b) in enumerate(zip(mine[name], theirs[name], strict=name != "quotes"))
            if a != b
        ] or [(name, -1, mine[name], theirs[name]) for name in theirs if mine[name] != theirs[name]]


def test_every_real_capture_decodes_alike(captures):
    compared = 0
    for path in sorted(captures.glob("*.*cap*")):
        pair = Pair()
        with path.open("rb") as stream:
            try:
                reader = open_capture(stream, path.name)
            except NotACapture:
                continue
            for block in reader.blocks():
                assert pair.differing(block) == [], path.name
                compared += len(block)
    assert compared > 20_000
