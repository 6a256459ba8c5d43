"""What nobody finished does not stay: it is taken up again, or taken away, and never under somebody's hands."""

import contextlib
import json
import time

import pytest
from tests.cloud.aws import Killed
from tests.cloud.memory import InMemory
from tests.cloud.test_large import CAPTURE, EVER, Ingesting, conversations

from backscatter.cloud.ingest import sweep
from backscatter.cloud.stack import GROUP
from backscatter.demo.wire import pcap
from backscatter.store.catalogue import listed
from backscatter.store.cleaning import ABANDONED, MINUTE, Cleaned

SMALL = pcap(conversations(10))


@pytest.fixture
def cloud(monkeypatch):
    return Ingesting(InMemory(RANGE_MEGABYTES="0.008"), monkeypatch)


class Passes:
    """Passes of the cleaner, a quarter of an hour apart, from `later` on. `given_up` are the objects that it gave up."""

    def __init__(self, cloud, later=ABANDONED + MINUTE):
        self._cloud, self.now, self.given_up = cloud.cloud, time.time_ns() + later, []

    def __call__(self):
        done = sweep(self._cloud.stack, self.now, lambda name: self.given_up.append(name.url))
        self.now += 15 * MINUTE
        return done


def killed_at(cloud, body, key, step):
    """A function killed at a call of its own, whose message nobody delivers again."""
    event = cloud.upload(key, body)
    cloud.cloud.alive = step
    with contextlib.suppress(Killed):
        cloud.handle(event)
    cloud.cloud.alive = None
    return event


def rest(cloud):
    """Items that are there, but for what a clean table has too."""
    return [key for key in cloud.cloud.everything() if key[0] not in ("deployment", "cleaning")]


def test_what_a_killed_function_left_is_condemned_and_then_taken_away(cloud):
    for step in range(3, 40):
        killed_at(cloud, SMALL, "s/a.pcap", step)
        if any(pk.startswith("flows#") for pk, _ in rest(cloud)):
            break
    assert listed(cloud.cloud.stack.items, GROUP, EVER) == []
    clean = Passes(cloud)
    assert clean() == Cleaned(condemned=1)
    assert [sk for _, sk in rest(cloud)].count("condemned") == 1
    assert clean() == Cleaned(removed=1)
    assert rest(cloud) == []
    assert clean() == Cleaned()
    assert clean.given_up == ["s3://captures/s/a.pcap"]


@pytest.mark.parametrize("step", range(3, 16))
def test_wherever_it_was_killed_nothing_is_left_or_all_is_listed(cloud, step):
    killed_at(cloud, SMALL, "s/a.pcap", step)
    clean = Passes(cloud)
    clean(), clean(), clean()
    entries = listed(cloud.cloud.stack.items, GROUP, EVER)
    if entries:
        cloud.holds(SMALL)
        assert any(sk == "listed" for _, sk in rest(cloud))
    else:
        assert rest(cloud) == []


def test_whoever_comes_while_it_is_taken_away_waits_and_then_stores_it(cloud):
    event = killed_at(cloud, SMALL, "s/a.pcap", 12)
    clean = Passes(cloud)
    if clean() == Cleaned(condemned=1):
        assert not cloud.handle(event), "it is to be delivered again"
    clean()
    assert cloud.handle(event)
    cloud.holds(SMALL)


def test_what_is_listed_and_what_was_begun_lately_is_left_alone(cloud):
    cloud.work_off(cloud.upload("s/a.pcap", SMALL))
    before = cloud.cloud.everything()
    killed_at(cloud, CAPTURE, "s/b.pcap", 8)
    half = cloud.cloud.everything()
    assert Passes(cloud, later=MINUTE)() == Cleaned()
    assert cloud.cloud.everything().items() >= half.items()
    cloud.cloud.items.items = {
        key: item for key, item in cloud.cloud.items.items.items() if key in before or key[0] == "intents"
    }
    Passes(cloud)()
    assert cloud.cloud.everything().items() >= before.items()


def test_a_capture_whose_messages_were_lost_is_taken_up_again(cloud):
    cloud.handle(cloud.upload("s/a.pcap", CAPTURE))
    assert len(cloud.cloud.messages("ingest")) > 3  # lost
    assert Passes(cloud)() == Cleaned(revived=1)
    cloud.work_off(*cloud.cloud.messages("ingest"))
    cloud.holds(CAPTURE)
    assert cloud.left() == []


def test_a_capture_that_cannot_be_finished_is_given_up_after_some_tries_and_people_are_told(cloud):
    cloud.handle(cloud.upload("s/a.pcap", CAPTURE))
    messages = cloud.cloud.messages("ingest")
    cloud.work_off(*messages[:2])
    clean, tries = Passes(cloud), 0
    while clean() == Cleaned(revived=1):
        tries += 1
        cloud.cloud.messages("ingest")  # lost again
        clean.now += ABANDONED
    assert tries == 3
    cloud.module.time = type("Clock", (), {"time_ns": staticmethod(lambda: clean.now)})
    assert cloud.handle(json.dumps({"source": "backscatter", "detail-type": "Cleaning Tick", "detail": {}}))
    assert rest(cloud) == []
    assert cloud.left() == []
    (buried,) = cloud.cloud.messages("dead")
    assert json.loads(buried)["detail"]["object"]["key"] == "s/a.pcap"
    (told,) = cloud.cloud.sqs.attributes
    assert told["reason"] == "abandoned"
    cloud.work_off(buried)  # sent again by a person
    cloud.holds(CAPTURE)


def test_a_capture_that_was_deleted_half_way_is_taken_away_without_a_word(cloud):
    cloud.handle(cloud.upload("s/a.pcap", CAPTURE))
    cloud.cloud.s3.delete_object(Bucket="captures", Key="s/a.pcap")
    cloud.work_off(*cloud.cloud.messages("ingest"))
    clean = Passes(cloud)
    assert [clean(), clean(), clean()] == [Cleaned(condemned=1), Cleaned(removed=1), Cleaned()]
    assert clean.given_up == []
    assert rest(cloud) == []
    assert cloud.left() == []


def test_parts_that_were_stored_go_with_a_capture_that_is_given_up(cloud, monkeypatch):
    monkeypatch.setattr("backscatter.cloud.large.PART_PACKETS", 40)
    monkeypatch.setattr("backscatter.cloud.large.MOST_TRIES", 1)
    cloud.handle(cloud.upload("s/a.pcap", CAPTURE))
    waiting = cloud.cloud.messages("ingest")
    while waiting and "Range" in waiting[0]:
        assert cloud.handle(waiting.pop(0))
        waiting += cloud.cloud.messages("ingest")
    assert len(waiting) > 3
    assert cloud.handle(waiting[0])
    cloud.cloud.alive = 8
    with pytest.raises(Killed):
        cloud.handle(waiting[1])
    cloud.cloud.alive = None
    assert any(pk.startswith("flows#") for pk, _ in rest(cloud))
    clean = Passes(cloud)
    assert [clean(), clean()] == [Cleaned(revived=1), Cleaned()]
    clean.now += ABANDONED  # nobody took it up
    assert [clean(), clean(), clean()] == [Cleaned(condemned=1), Cleaned(removed=1), Cleaned()]
    assert rest(cloud) == []
    assert cloud.left() == []
