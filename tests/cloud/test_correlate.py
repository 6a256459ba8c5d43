"""From a finding to its notice, whatever comes in between."""

import gzip
import json

import pytest
from botocore.exceptions import ClientError
from tests.cloud.aws import BUCKET, Killed, deployed

from backscatter.cloud.events import CAPTURES_GATHERED, PATIENCE_TICK, our_event
from backscatter.demo import case2007
from backscatter.errors import Gone, Hopeless

MINUTE = 60 * case2007.SECOND
TICK = our_event(PATIENCE_TICK, {})


@pytest.fixture(scope="module")
def capture():
    return case2007.capture()


@pytest.fixture
def cloud(monkeypatch):
    with deployed(monkeypatch) as cloud:
        yield cloud


def finding(name="f", **how):
    return case2007.guardduty_finding(finding=name, **how)


def told(cloud):
    return [(outcome.finding, outcome.verdict) for outcome in cloud.outcomes if outcome.told]


def test_a_finding_without_a_capture_is_told_as_undetermined_when_patience_ends(cloud):
    cloud.report(finding())
    for _ in range(5):
        cloud.now += 5 * MINUTE
        cloud.correlate(TICK)
    assert told(cloud) == []
    cloud.now += 6 * MINUTE
    cloud.correlate(TICK)
    assert told(cloud) == [("f", "undetermined")]
    ((subject, text),) = cloud.mails()
    assert subject.startswith("Not decided")
    assert "no_capture" in text or "nothing was captured" in text.lower()
    cloud.now += 60 * MINUTE
    cloud.correlate(TICK)
    assert cloud.mails() == []


def test_a_capture_that_comes_after_patience_changes_the_verdict_and_that_is_news(cloud, capture):
    cloud.report(finding())
    cloud.now += 31 * MINUTE
    cloud.correlate(TICK)
    cloud.mails()
    cloud.ingest("s/a.pcap", capture)
    cloud.wake()
    assert told(cloud) == [("f", "undetermined"), ("f", "backscatter")]
    ((subject, _),) = cloud.mails()
    assert "Backscatter" in subject


def test_a_verdict_that_turns_from_backscatter_to_real_is_told_as_a_correction(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.report(finding())
    assert told(cloud) == [("f", "backscatter")]
    # A second collector had our SYN all along: somebody forged nothing.
    at, _, port, _, ack = case2007.PAIRS[0]
    syn = case2007.tcp(case2007.OURS, port, case2007.VICTIM, case2007.IRC, "S", seq=ack - 1)
    records = [*case2007.ordinary(), (at - 20_000_000, case2007.ether(syn))]
    cloud.ingest("t/b.pcap", case2007.pcap(sorted(records)))
    cloud.wake()
    assert told(cloud)[-1][1] in ("connection_attempted", "connection_established")
    subjects = [subject for subject, _ in cloud.mails()]
    assert len(subjects) == 2
    assert subjects[-1].startswith("CORRECTION")


@pytest.mark.parametrize("packed", [lambda body: body, gzip.compress], ids=["plain", "gzip"])
def test_evidence_is_read_from_the_object_by_offset_compressed_or_not(cloud, capture, packed):
    cloud.ingest("s/a.pcap", packed(capture))
    cloud.report(finding())
    ((_, text),) = cloud.mails()
    assert "Flags [S.], seq 4257997451, ack 2934031229, win 2048" in text
    assert "Flags [R], seq 2934031229" in text


def test_evidence_that_was_deleted_is_missing_and_changes_no_verdict(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.s3.delete_object(Bucket=BUCKET, Key="s/a.pcap")
    cloud.report(finding())
    assert told(cloud) == [("f", "backscatter")]
    ((_, text),) = cloud.mails()
    assert "The packets cannot be shown: s3://captures/s/a.pcap is not there any more" in " ".join(text.split())


def test_a_new_version_of_a_capture_is_not_shown_as_evidence_of_the_old_one(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.upload("s/a.pcap", case2007.calling_capture())
    cloud.report(finding())
    ((_, text),) = cloud.mails()
    assert "was uploaded again" in text


def test_a_line_of_an_alert_log_that_cannot_be_read_costs_that_line(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    lines = [json.dumps(finding("one")), '{"broken": ', json.dumps(finding("two"))]
    name = cloud.upload("alerts/log.json", "\n".join(lines).encode())
    event = {"bucket": {"name": BUCKET}, "object": {"key": name.key, "etag": name.etag}}
    cloud.correlate({"source": "aws.s3", "detail-type": "Object Created", "detail": event})
    assert {name for name, _ in told(cloud)} == {"one", "two"}
    (trouble,) = cloud.troubles
    assert "line 2: broken JSON" in trouble.text
    assert trouble.errors == 1


def test_an_alert_log_of_more_alerts_than_there_is_time_for_is_gone_on_with(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    names = [f"f{number}" for number in range(5)]
    lines = (
        [json.dumps(finding(name)) for name in names[:3]] + ["{"] + [json.dumps(finding(name)) for name in names[3:]]
    )
    name = cloud.upload("alerts/log.json", "\n".join(lines).encode())
    event = {"bucket": {"name": BUCKET}, "object": {"key": name.key, "etag": name.etag}}
    cloud.hurried = lambda: True
    cloud.correlate({"source": "aws.s3", "detail-type": "Object Created", "detail": event})
    rounds = 0
    while bodies := cloud.messages("correlate"):
        rounds += 1
        for body in bodies:
            cloud.correlate(body)
    assert rounds == 5
    assert sorted(told(cloud)) == [(name, "backscatter") for name in names]
    assert len(cloud.troubles) == 1


def test_an_event_of_several_findings_is_remembered_whole_however_little_time_is_left(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.hurried = lambda: True
    cloud.report({"findings": [finding("f1"), finding("f2"), finding("f3")]})
    assert told(cloud) == [("f1", "backscatter")]
    cloud.hurried = lambda: False
    cloud.now += 6 * MINUTE
    cloud.correlate(TICK)
    assert sorted(told(cloud)) == [(name, "backscatter") for name in ("f1", "f2", "f3")]


def test_what_an_alert_log_left_unjudged_the_schedule_finishes_however_much_it_is(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    names = [f"f{number}" for number in range(5)]
    name = cloud.upload("alerts/log.json", "\n".join(json.dumps(finding(name)) for name in names).encode())
    event = {"bucket": {"name": BUCKET}, "object": {"key": name.key, "etag": name.etag}}
    remembered = iter([False] * 4)
    cloud.hurried = lambda: next(remembered, True)
    cloud.correlate({"source": "aws.s3", "detail-type": "Object Created", "detail": event})
    assert len(told(cloud)) == 1
    cloud.now += 6 * MINUTE
    cloud.correlate(TICK)
    while bodies := cloud.messages("correlate"):
        for body in bodies:
            cloud.correlate(body)
    assert sorted(told(cloud)) == [(name, "backscatter") for name in names]


def test_a_finding_that_kills_the_function_does_not_keep_the_others_from_their_turn(cloud, capture, monkeypatch):
    import backscatter.cloud.correlate as module

    judge = module.judge

    def deadly(one, *rest):
        if one.id == "deadly":
            raise Killed
        return judge(one, *rest)

    monkeypatch.setattr(module, "judge", deadly)
    for name in ("deadly", "f1", "f2"):
        try:
            cloud.report(finding(name))
        except Killed:
            cloud.now += 1
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")  # only the schedule is left
    cloud.now += 6 * MINUTE
    with pytest.raises(Killed):
        cloud.correlate(TICK)
    cloud.correlate(TICK)
    assert sorted(told(cloud)) == [("f1", "backscatter"), ("f2", "backscatter")]


def test_a_finding_that_fails_when_time_runs_out_is_left_to_the_schedule(cloud, capture, monkeypatch):
    import backscatter.cloud.correlate as module

    judge = module.judge

    def failing(one, *rest):
        if one.id == "failing":
            raise ZeroDivisionError
        return judge(one, *rest)

    for name in ("failing", "f1", "f2"):
        cloud.report(finding(name))
    cloud.now += 31 * MINUTE
    cloud.correlate(TICK)
    assert [verdict for _, verdict in told(cloud)] == ["undetermined"] * 3
    cloud.ingest("s/a.pcap", capture)
    monkeypatch.setattr(module, "judge", failing)
    cloud.hurried = lambda: True
    while bodies := cloud.messages("correlate"):
        for body in bodies:
            try:
                cloud.correlate(body)
            except ZeroDivisionError:  # it stood last: its message comes again
                cloud.stack.sqs.send_message(QueueUrl=cloud.environment["QUEUE_URL"], MessageBody=body)
                monkeypatch.setattr(module, "judge", judge)
    monkeypatch.setattr(module, "judge", judge)
    cloud.now += 6 * MINUTE
    cloud.correlate(TICK)
    assert sorted(name for name, verdict in told(cloud) if verdict == "backscatter") == ["f1", "f2", "failing"]


def test_a_finding_about_years_is_told_as_undetermined_and_does_not_stay_for_ever(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    long = finding()
    long["service"]["eventFirstSeen"] = "2001-01-01T00:00:00Z"
    cloud.report(long)
    assert told(cloud) == [("f", "undetermined")]
    ((_, text),) = cloud.mails()
    assert "longer than 400 days" in " ".join(text.split())
    assert "othing was captured" not in text
    cloud.now += 60 * MINUTE
    cloud.correlate(TICK)
    assert len(cloud.outcomes) == 1


def test_a_finding_about_a_server_too_busy_for_the_function_is_undetermined(cloud, capture, monkeypatch):
    import backscatter.cloud.correlate as module

    cloud.ingest("s/a.pcap", capture)
    scene = module.StoredScene
    monkeypatch.setattr(module, "StoredScene", lambda *where, **how: scene(*where, most_flows=100, **how))
    cloud.report(finding())
    assert told(cloud) == [("f", "undetermined")]
    ((_, text),) = cloud.mails()
    assert "more than 100 flows" in " ".join(text.split())


def test_the_sguil_text_of_the_case_is_read_from_the_alert_prefix(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    name = cloud.upload("alerts/sguil.txt", case2007.sguil_alert().encode())
    event = {"bucket": {"name": BUCKET}, "object": {"key": name.key, "etag": name.etag}}
    cloud.correlate({"source": "aws.s3", "detail-type": "Object Created", "detail": event})
    assert told(cloud) == [("1.204541", "backscatter")]


def test_what_is_no_finding_is_hopeless(cloud):
    with pytest.raises(Hopeless, match="no alert format") as error:
        cloud.correlate({"id": "e7", "source": "aws.ec2", "detail-type": "Weather", "detail": {"rain": 1}})
    assert error.value.reason == "no_finding"


def test_an_alert_log_that_was_deleted_is_gone(cloud):
    event = {"bucket": {"name": BUCKET}, "object": {"key": "alerts/a.json", "etag": "x"}}
    with pytest.raises(Gone):
        cloud.correlate({"source": "aws.s3", "detail-type": "Object Created", "detail": event})


@pytest.mark.parametrize("detail", [{}, {"capture": "x"}, {"capture": "x", "start": "soon"}])
def test_a_capture_that_is_listed_without_a_name_is_hopeless(cloud, detail):
    with pytest.raises(Hopeless):
        cloud.correlate(our_event("Capture Listed", detail))


def test_a_capture_whose_place_a_later_version_took_wakes_nobody(cloud):
    cloud.correlate(our_event("Capture Listed", {"capture": "x", "start": case2007.START}))
    assert cloud.outcomes == []


def test_a_capture_that_wakes_more_findings_than_there_is_time_for_leaves_the_rest_to_a_message(cloud, capture):
    names = [f"f{number}" for number in range(5)]
    for name in names:
        cloud.report(finding(name))
    cloud.ingest("s/a.pcap", capture)
    cloud.outcomes.clear()
    cloud.hurried = lambda: True
    rounds = 0
    while bodies := cloud.messages("correlate"):
        rounds += 1
        for body in bodies:
            cloud.correlate(body)
    assert rounds > 2
    assert sorted(told(cloud)) == [(name, "backscatter") for name in names]
    assert len(cloud.mails()) == 5


def test_one_finding_that_fails_costs_the_others_nothing(cloud, capture, monkeypatch):
    for name in ("f1", "f2", "f3"):
        cloud.report(finding(name))
    cloud.ingest("s/a.pcap", capture)
    import backscatter.cloud.correlate as module

    judge = module.judge

    def failing(one, *rest):
        if one.id == "f2":
            raise ZeroDivisionError
        return judge(one, *rest)

    monkeypatch.setattr(module, "judge", failing)
    with pytest.raises(ZeroDivisionError):
        cloud.wake()
    assert {name for name, _ in told(cloud)} == {"f1", "f3"}
    monkeypatch.setattr(module, "judge", judge)
    cloud.now += 6 * MINUTE
    cloud.correlate(TICK)
    assert {name for name, _ in told(cloud)} == {"f1", "f2", "f3"}


def test_a_function_killed_at_any_call_leaves_what_the_next_ones_finish(cloud):
    """After each kill the message comes again and the schedule ticks on, as they do."""
    cloud.ingest("s/a.pcap", case2007.pcap(case2007.pairs()))
    cloud.messages("correlate")
    for step in range(200):
        name = f"f{step}"
        cloud.alive = step
        try:
            cloud.report(finding(name))
        except Killed:
            cloud.report(finding(name))
        else:
            break
        for _ in range(2):
            cloud.now += 5 * MINUTE
            cloud.correlate(TICK)
        mails = cloud.mails()
        revisions = {line for _, text in mails for line in text.splitlines() if line.startswith("Revision")}
        assert len(revisions) == 1, step
        # Only a kill exactly between telling and marking repeats a notice, and then with the same revision.
        assert len(mails) in (1, 2), step
    assert step > 10


def test_a_channel_that_does_not_take_a_notice_makes_no_other_repeat_it(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    topic, cloud.environment["CHAT_TOPIC"] = cloud.environment["CHAT_TOPIC"], "arn:aws:sns:us-east-1:123456789012:none"
    for at in range(3):
        cloud.now += 5 * MINUTE
        with pytest.raises(ClientError):
            cloud.correlate(TICK) if at else cloud.report(finding())
    assert len(cloud.mails()) == 1
    cloud.environment["CHAT_TOPIC"] = topic
    cloud.now += 10 * MINUTE  # each try that fails is put off for longer
    cloud.correlate(TICK)
    assert len(cloud.messages("chat")) == 1
    assert cloud.mails() == []
    # Other news is for everybody again.
    at, _, port, _, ack = case2007.PAIRS[0]
    syn = case2007.tcp(case2007.OURS, port, case2007.VICTIM, case2007.IRC, "S", seq=ack - 1)
    records = [*case2007.ordinary(), (at - 20_000_000, case2007.ether(syn))]
    cloud.ingest("t/b.pcap", case2007.pcap(sorted(records)))
    cloud.wake()
    assert (len(cloud.mails()), len(cloud.messages("chat"))) == (1, 1)


def test_trouble_of_a_service_is_left_to_another_try(cloud, capture, monkeypatch):
    cloud.ingest("s/a.pcap", capture)
    cloud.sns.delete_topic(TopicArn=cloud.environment["MAIL_TOPIC"])
    with pytest.raises(ClientError):
        cloud.report(finding())


def beats(start, minutes=1):
    """Ordinary traffic of our host with somebody else, which a capture of a busy host holds all the time."""
    import random

    records = []
    for number in range(minutes * 3):
        at = start + number * 20 * case2007.SECOND
        records += case2007.session(at, 40000 + number, ("192.0.2.80", 443), random.Random(number), (b"ask",))
    return case2007.pcap(sorted(records))


def test_captures_of_a_busy_host_that_lack_the_remote_are_gathered(cloud, capture):
    """A finding is judged at once for a capture that can hold both ends, and once for a quarter of an hour of others."""
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    cloud.report(finding())
    assert told(cloud) == [("f", "backscatter")]
    cloud.now = case2007.END + 60 * MINUTE
    cloud.outcomes.clear()
    for number in range(12):
        cloud.ingest(f"t/{number}.pcap", beats(case2007.FIRST + number * MINUTE))
        cloud.now += MINUTE // 4
    cloud.wake()
    assert cloud.outcomes == []
    cloud.now += 16 * MINUTE
    cloud.correlate(TICK)
    cloud.wake()
    assert [outcome.finding for outcome in cloud.outcomes] == ["f"]
    cloud.now += 16 * MINUTE
    cloud.correlate(TICK)
    cloud.wake()
    assert len(cloud.outcomes) == 1
    cloud.ingest("u/a.pcap", case2007.pcap(case2007.pairs()))
    cloud.wake()
    assert len(cloud.outcomes) == 2


def test_gathered_captures_that_wake_more_findings_than_there_is_time_for_leave_the_rest_to_a_message(cloud, capture):
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    names = [f"f{number}" for number in range(4)]
    for name in names:
        cloud.report(finding(name))
    cloud.ingest("t/a.pcap", beats(case2007.FIRST))
    cloud.wake()
    cloud.outcomes.clear()
    cloud.now += 16 * MINUTE
    cloud.correlate(TICK)
    cloud.hurried = lambda: True
    rounds = 0
    while bodies := cloud.messages("correlate"):
        rounds += 1
        for body in bodies:
            cloud.correlate(body)
    assert rounds > 2
    assert sorted(outcome.finding for outcome in cloud.outcomes) == names


def test_gathered_captures_without_names_are_hopeless(cloud):
    with pytest.raises(Hopeless, match="without ids"):
        cloud.correlate(our_event(CAPTURES_GATHERED, {"captures": [1, 2]}))


def test_one_finding_costs_at_most_twenty_read_requests_besides_its_segments(cloud, capture):
    """With a dozen captures of two sensors around it, and a window of hours as GuardDuty gives it."""
    requests = {"segments": 0, "others": 0}

    def count(model, params, **_):
        if model.name in ("Query", "GetItem", "BatchGetItem"):
            requests["segments" if "flows#" in str(params["body"]) else "others"] += 1

    cloud.stack._session.events.register("before-call.dynamodb", count)
    for number in range(6):
        start = case2007.FIRST + number * 10 * MINUTE
        cloud.ingest(f"one/{number}.pcap", beats(start, 9))
        cloud.ingest(f"two/{number}.pcap", beats(start + 7, 9))
    cloud.ingest("s/a.pcap", capture)
    cloud.messages("correlate")
    requests |= {"segments": 0, "others": 0}
    alert = finding()
    alert["service"] |= {"eventFirstSeen": "2007-03-20T12:00:00Z", "eventLastSeen": "2007-03-20T20:20:00Z"}
    cloud.report(alert)
    assert told(cloud) == [("f", "backscatter")]
    assert requests["segments"] > 0
    assert 0 < requests["others"] <= 20, requests


def test_two_judges_at_once_make_one_verdict_and_one_notice(cloud, capture, monkeypatch):
    """The second judge begins, and ends, while the first one still looks at its captures."""
    import backscatter.cloud.correlate as module

    cloud.report(finding())
    cloud.ingest("s/a.pcap", capture)
    (message,) = cloud.messages("correlate")
    judge, judging = module.judge, []

    def interrupted(one, *rest):
        judging.append(one.id)
        if len(judging) == 1:
            cloud.correlate(message)
        return judge(one, *rest)

    monkeypatch.setattr(module, "judge", interrupted)
    cloud.correlate(message)
    assert len(judging) == 3  # the first one was overtaken, and looked again
    assert told(cloud) == [("f", "backscatter")]
    assert len(cloud.mails()) == 1
