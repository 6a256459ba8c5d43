"""dpkt is the reference for IP, TCP and UDP: where it reads a whole packet, we read the same numbers."""

import dpkt
import pytest

from backscatter.capture.reader import open_capture
from backscatter.decode.columns import OK
from backscatter.decode.decoder import Decoder

CAPTURES = [
    "ncsa__backscatter-192.150.186.pcap",
    "malcolm__DNS.pcap",
    "slips__test-cc-capture-1.pcap",
    "nDPI__bot.pcap",
    "zeek__wstunnel-ssh.pcap",
    "agenttesla__a30789ce-1e1c-4f96-a097-78c34b9fb612.pcap",
]


@pytest.mark.parametrize("name", CAPTURES)
def test_numbers_are_those_of_dpkt(name, captures):
    decoder, compared = Decoder(), 0
    with (captures / name).open("rb") as stream:
        for block in open_capture(stream, name).blocks():
            packets = decoder.decode(block)
            for i in range(len(block)):
                frame = block.data[block.body[i] : block.body[i] + block.caplen[i]].tobytes()
                ip = dpkt.ethernet.Ethernet(frame).data
                if not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6):
                    continue
                assert packets["status"][i] == OK
                wide = packets["src_hi"][i].item() << 64 | packets["src_lo"][i].item()
                assert wide.to_bytes(len(ip.src)) == ip.src
                assert packets["ttl"][i] == (ip.ttl if isinstance(ip, dpkt.ip.IP) else ip.hlim)
                if isinstance(ip.data, dpkt.tcp.TCP):
                    ours = [
                        packets[column][i].item()
                        for column in ("src_port", "dst_port", "seq", "ack", "flags", "window")
                    ]
                    tcp = ip.data
                    assert ours == [tcp.sport, tcp.dport, tcp.seq, tcp.ack, tcp.flags & 0xFF, tcp.win]
                    if block.caplen[i] == block.wirelen[i]:
                        assert packets["payload"][i] == len(tcp.data)
                    compared += 1
                elif isinstance(ip.data, dpkt.udp.UDP):
                    assert (packets["src_port"][i], packets["dst_port"][i]) == (ip.data.sport, ip.data.dport)
                    compared += 1
    assert compared > 100
