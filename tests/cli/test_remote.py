"""Commands on a deployed store: the same answers as on the files that it was made of."""

import json

import pytest
from tests.cli.deployed import NOON, SECOND, SINCE, captured, deployed, flows_of, run


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """Three minutes of one tap."""
    with deployed(tmp_path_factory.mktemp("files")) as store:
        for minute in range(3):
            hosts = [f"10.0.{minute}.{i}" for i in range(1, 60)]
            store.upload(f"tap/{minute}.pcap", captured(NOON + minute * 60 * SECOND, hosts))
        yield store


@pytest.mark.parametrize(
    "chosen",
    [
        ["--host", "10.0.1.7"],
        ["--host", "10.0.1.0/28"],
        ["--host", "10.0.0.0/8", "--port", "443"],
        ["--proto", "udp"],
        ["--host", "192.0.2.1", "--until", "2025-11-22T12:00:30Z"],
        ["--scope", "", "--port", "40000"],
        ["--scope", "vni:1"],
    ],
    ids=" ".join,
)
def test_a_filter_finds_in_the_store_what_it_finds_in_the_files(rotated, chosen):
    stored = flows_of("--stack", "ours", "--since", SINCE, *chosen)
    assert stored == flows_of(*rotated.files, "--since", SINCE, *chosen)


def test_a_community_id_finds_its_conversation(rotated):
    (one,) = flows_of(*rotated.files, "--host", "10.0.2.9")
    assert flows_of("--stack", "ours", "--since", SINCE, "--flow", one["community_id"]) == [one]


def test_a_host_is_looked_for_in_the_captures_that_can_hold_it(rotated):
    done = run("flows", "--stack", "ours", "--since", SINCE, "--host", "10.0.1.7")
    assert "3 captures in the window, 1 of them can hold it: reading 1 items" in done.stderr


def test_the_table_is_as_of_files(rotated):
    chosen = ("--host", "10.0.1.7")
    stored, local = run("flows", "--stack", "ours", "--since", SINCE, *chosen), run("flows", *rotated.files, *chosen)
    assert stored.stdout == local.stdout


def test_a_summary_has_the_totals_of_what_was_found(rotated):
    done = run("flows", "--stack", "ours", "--since", SINCE, "--summary", "--json")
    total = json.loads(done.stdout)
    assert (total["captures"], total["flows"], total["packets"]) == (3, 177, 531)


def test_too_much_is_refused_before_it_is_read(rotated):
    done = run("flows", "--stack", "ours", "--since", SINCE, "--most-items", 2)
    assert done.exit_code == 2
    assert "3 items are more than 2" in done.stderr


def test_without_a_beginning_the_last_24_hours_are_meant_and_that_is_said(rotated):
    done = run("flows", "--stack", "ours", "--until", "2025-11-22T13:00:00Z", "--host", "10.0.1.7", "--json")
    assert "looking from 2025-11-21T13:00:00" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "no capture of" in run("flows", "--stack", "ours").stderr


def test_the_catalogue_lists_the_captures_as_the_files_are_listed(rotated):
    stored = [
        json.loads(line) for line in run("captures", "--stack", "ours", "--since", SINCE, "--json").stdout.splitlines()
    ]
    local = [json.loads(line) for line in run("captures", *rotated.files, "--json").stdout.splitlines()]
    assert [one["capture"] for one in stored] == [f"s3://captures/tap/{minute}.pcap" for minute in range(3)]
    for one, other in zip(stored, local, strict=True):
        for field in ("start", "end", "packets", "damaged_bytes", "dropped", "clock_ok"):
            assert one[field] == other[field]
    assert [one["flows"] for one in stored] == [59, 59, 59]


def packets_of(*arguments):
    done = run("packets", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_packets_are_read_by_their_places_in_few_reads(rotated):
    stored, said = packets_of("--stack", "ours", "--since", SINCE, "--host", "10.0.1.7")
    local, _ = packets_of(*rotated.files, "--host", "10.0.1.7")
    assert len(stored) == 3
    assert [(one["time"], one["text"], one["offset"]) for one in stored] == [
        (one["time"], one["text"], one["offset"]) for one in local
    ]
    assert "s3://captures/tap/1.pcap: 3 packets in 1 reads" in said


def test_packets_before_the_time_asked_for_are_not_shown(rotated):
    since = "2025-11-22T12:01:06.000001500Z"
    stored, _ = packets_of("--stack", "ours", "--since", since, "--host", "10.0.1.7")
    assert [one["text"].split("Flags ")[1][:3] for one in stored] == ["[.]"]


def test_packets_are_written_as_from_files(rotated, tmp_path):
    chosen = ("--host", "10.0.2.0/29")
    assert run("packets", *rotated.files, *chosen, "--write", tmp_path / "local.pcap").exit_code == 0
    for more in ([], ["--whole"]):
        target = tmp_path / "stored.pcap"
        assert run("packets", "--stack", "ours", "--since", SINCE, *chosen, *more, "--write", target).exit_code == 0
        assert target.read_bytes() == (tmp_path / "local.pcap").read_bytes()
