"""`backscatter floods` on a deployed store: the same floods as in the files that it was made of."""

import json

import pytest
from tests.cli.deployed import deployed, run
from tests.flood.made import answered, whole
from tests.verdict.tape import seconds

from backscatter.demo.wire import pcap

SINCE, UNTIL = "2023-11-14T22:13:20Z", "2023-11-14T23:13:20Z"


@pytest.fixture
def store(tmp_path):
    """Ten minutes of one tap, rotated in their middle: a flood in either half."""
    tape = whole()
    for number in range(3):
        answered(tape, 200 + number, our_port=4000 + number, ack=number * 90000 + 7)
        answered(tape, 500 + number, our_port=5000 + number, ack=number * 80000 + 7, victim="198.51.100.8")
    records = sorted(tape.records)
    with deployed(tmp_path) as store:
        for number, (begin, end) in enumerate(((0, 350), (350, 2000))):
            part = [record for record in records if seconds(begin) <= record[0] < seconds(end)]
            store.upload(f"tap/{number}.pcap", pcap(part))
        yield store


def floods(*arguments):
    done = run("floods", "--json", *arguments)
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_the_store_has_the_floods_of_the_files(store):
    code, stored, said = floods("--stack", "ours", "--since", SINCE, "--until", UNTIL)
    assert code == 0
    assert "2 captures in the window" in said
    assert stored == floods(*store.files)[1]
    assert {flood["victim"] for flood in stored} == {"198.51.100.7", "198.51.100.8"}


def test_only_answers_of_the_time_asked_for_count_and_what_was_before_vouches(store):
    _, stored, _ = floods("--stack", "ours", "--since", "2023-11-14T22:21:30Z", "--until", UNTIL)
    assert [(flood["victim"], flood["answers"], flood["unproven"]) for flood in stored] == [("198.51.100.8", 3, {})]
    _, local, _ = floods(*store.files, "--since", "2023-11-14T22:21:30Z")
    assert [flood["victim"] for flood in local] == ["198.51.100.8"]


def test_nothing_is_proven_where_items_are_missing(store):
    store.drop("flows#")
    code, stored, said = floods("--stack", "ours", "--since", SINCE, "--until", UNTIL)
    assert (code, stored) == (1, [])
    assert "missing from the store" in said


def test_captures_and_a_stack_exclude_each_other(store):
    assert floods()[0] == 2
    assert floods(*store.files, "--stack", "ours")[0] == 2
