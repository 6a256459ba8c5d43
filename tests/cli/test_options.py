"""What may be written in options, and what is refused where."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from backscatter.cli.main import cli
from backscatter.cli.options import read_network, read_tuple
from backscatter.finding.model import End, Tuple


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--host", "193.109.122"),
        ("--host", "10.0.0.0/33"),
        ("--host", "example.com"),
        ("--port", "65536"),
        ("--port", "http"),
        ("--proto", "tpc"),
        ("--proto", "256"),
        ("--since", "yesterday"),
        ("--until", "2007-03-20T25:00:00Z"),
        ("--scope", "vxlan:7"),
        ("--scope", "vni:"),
        ("--flow", "0SMa70aty2e1lVvIdRUl+DXfuJs="),
        ("--flow", "1:0SMa70aty2e1lVvIdRUl+DXfuJs"),
    ],
)
@pytest.mark.parametrize("command", ["flows", "packets"])
def test_a_filter_that_cannot_be_read_is_wrong_usage_and_names_its_option(command, option, value):
    result = CliRunner().invoke(cli, [command, "capture.pcap", option, value])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"'{option}'" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--home", "10.0.0.0/8/8"),
        ("--alias", "203.0.113.7"),
        ("--alias", "203.0.113.7=host"),
        ("--tuple", "tcp 10.0.0.5:1024"),
        ("--tuple", "tcp 10.0.0.5:1024 > 2001:db8::1"),
        ("--tuple", "tcp 10.0.0.5:70000 > 192.0.2.1:80"),
        ("--tuple", "icmp 10.0.0.5:8 > 192.0.2.1:0"),
        ("--tuple", "quic 10.0.0.5 > 192.0.2.1"),
        ("--at", "noon"),
        ("--at", "99999999999"),
        ("--at", "1969-12-31T23:59:59Z"),
    ],
)
def test_a_triage_option_that_cannot_be_read_is_wrong_usage_and_names_itself(option, value):
    result = CliRunner().invoke(cli, ["triage", "capture.pcap", option, value])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"'{option}'" in result.stderr


def test_a_window_that_ends_before_it_begins_is_wrong_usage():
    result = CliRunner().invoke(cli, ["flows", "capture.pcap", "--since", "20", "--until", "10"])
    assert result.exit_code == 2
    assert "--since" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp 10.0.0.5:1024 > 192.0.2.1:6667", Tuple("tcp", End("10.0.0.5", 1024), End("192.0.2.1", 6667))),
        ("TCP 10.0.0.5:1024->192.0.2.1:6667", Tuple("tcp", End("10.0.0.5", 1024), End("192.0.2.1", 6667))),
        ("udp [2001:DB8::1]:53 > [2001:db8::2]", Tuple("udp", End("2001:db8::1", 53), End("2001:db8::2"))),
        ("tcp 2001:db8::1 > 2001:db8::2", Tuple("tcp", End("2001:db8::1"), End("2001:db8::2"))),
        ("icmp 10.0.0.5 > 192.0.2.1", Tuple("icmp", End("10.0.0.5"), End("192.0.2.1"))),
        ("tcp fe80::1%eth0 > [fe80::2%en1]:80", Tuple("tcp", End("fe80::1"), End("fe80::2", 80))),
        ("47 10.0.0.5 > 192.0.2.1", Tuple("47", End("10.0.0.5"), End("192.0.2.1"))),
        ("6 10.0.0.5 > 192.0.2.1", Tuple("tcp", End("10.0.0.5"), End("192.0.2.1"))),
    ],
)
def test_a_conversation_is_written_as_tcpdump_readers_would(text, expected):
    assert read_tuple(text) == expected


@given(
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
    ),
    st.one_of(st.none(), st.integers(1, 65535)),
    st.one_of(st.none(), st.integers(1, 65535)),
)
def test_every_conversation_that_can_be_written_is_read_back(proto, addresses, sport, dport):
    def end(address, port):
        if port is None:
            return str(address)
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

    one, other = addresses
    read = read_tuple(f"{proto} {end(one, sport)} > {end(other, dport)}")
    assert read == Tuple(proto, End(str(one), sport), End(str(other), dport))


@given(st.text().filter(lambda text: ">" not in text))
def test_text_that_is_no_conversation_is_refused_in_words(text):
    with pytest.raises(ValueError, match="is no conversation such as"):
        read_tuple(text)


def test_bits_beyond_the_prefix_of_a_network_are_ignored():
    assert str(read_network("10.0.0.5/24")) == "10.0.0.0/24"
