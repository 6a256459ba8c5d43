"""Captures that others made."""

from backscatter.capture.pick import expanding_read, pick
from backscatter.capture.reader import open_capture

#: What is wrong with these files, in words of the damage's reason.
DAMAGED = {
    "dpkt__truncated_dns_2.pcap": "cut short",
    "sv__bug-6875-01-fuzz.pcap": "limit record_bytes",
    "sv__smtp-to-comma-10.7.29.101_49898-178.63.41.150_25.pcap": "limit record_bytes",
}


def test_every_capture_reads_and_its_damage_is_known(captures):
    names = sorted(path.name for path in captures.glob("*.pcap*"))
    assert len(names) > 100
    found = {}
    for name in names:
        with (captures / name).open("rb") as stream:
            reader = open_capture(stream, name)
            for block in reader.blocks():
                assert (block.body + block.caplen).max() <= len(block.data)
        if reader.damage:
            (damage,) = reader.damage
            found[name] = damage.reason
        assert reader.stopped is None
        if not reader.layout.compression:
            assert reader.expanded == (captures / name).stat().st_size
    assert found.keys() == DAMAGED.keys()
    assert all(DAMAGED[name] in reason for name, reason in found.items())


def test_every_record_of_every_capture_can_be_picked(captures):
    for path in sorted(captures.glob("*.pcap*")):
        with path.open("rb") as stream:
            reader = open_capture(stream, path.name)
            records = {}
            for block in reader.blocks():
                for i in list(range(0, len(block), 97)):
                    body = block.data[block.body[i] : block.body[i] + block.caplen[i]]
                    records[int(block.offset[i])] = (int(block.wirelen[i]), int(block.linktype[i]), body.tobytes())
        with path.open("rb") as stream:
            picked = pick(expanding_read(stream, path.name), reader.layout, records)
        assert {
            offset: (
                int(one.wirelen[0]),
                int(one.linktype[0]),
                one.data[one.body[0] : one.body[0] + one.caplen[0]].tobytes(),
            )
            for offset, one in picked.items()
        } == records, path.name
