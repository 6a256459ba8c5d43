"""`backscatter triage`: the 2007 case on a laptop, and what every verdict must carry."""

import gzip
import json
from itertools import pairwise

import pytest
from click.testing import CliRunner
from tests.cli import case
from tests.cli.schema import VERDICT, faults

from backscatter.cli.main import cli
from backscatter.demo import case2007
from backscatter.demo.wire import pcap

HOME = ("--home", case.LOCAL)


def triage(*arguments: str):
    result = CliRunner().invoke(cli, ["triage", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def verdicts(*arguments: str, code: int = 0) -> list[dict]:
    result = triage("--json", *arguments)
    assert result.exit_code == code, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [faults(one, VERDICT) for one in found] == [[]] * len(found)
    return found


def eve(source: str, sport: int, destination: str, dport: int, at: str, **more) -> str:
    return json.dumps(
        {
            "timestamp": at,
            "event_type": "alert",
            "src_ip": source,
            "src_port": sport,
            "dest_ip": destination,
            "dest_port": dport,
            "proto": "TCP",
            "alert": {"signature_id": 2000001, "signature": "Known Bot C&C Server Traffic", "severity": 1},
            **more,
        }
    )


@pytest.fixture
def alert(tmp_path):
    path = tmp_path / "alert.txt"
    path.write_text(case.ALERT)
    return str(path)


@pytest.fixture
def day(tmp_path):
    return case.write(tmp_path / "day.pcap", case.day())


def test_the_2007_alert_with_traffic_around_it_is_confirmed_backscatter(day, alert):
    [verdict] = verdicts(day, "--findings", alert, *HOME)
    assert (verdict["verdict"], verdict["rule"], verdict["band"]) == ("backscatter", "R4", "confirmed")
    assert verdict["victim"] == {"ip": case.REMOTE, "port": 6667, "proto": "tcp"}
    assert verdict["local"] == {"ip": case.LOCAL, "port": 1024}
    texts = [packet["text"] for evidence in verdict["evidence"] for packet in evidence["packets"]]
    assert any("Flags [S.], seq 4257997451, ack 2934031229, win 2048" in text for text in texts)
    assert any("Flags [R], seq 2934031229" in text for text in texts)


def test_the_four_packets_alone_are_possible_at_most(tmp_path, alert):
    [verdict] = verdicts(case.write(tmp_path / "pairs.pcap", case.pairs()), "--findings", alert, *HOME)
    assert verdict["confidence"] < 70


def test_evidence_says_where_its_packets_lie(day, alert):
    [verdict] = verdicts(day, "--findings", alert, *HOME)
    packets = [packet for evidence in verdict["evidence"] for packet in evidence["packets"]]
    assert packets
    printed = CliRunner().invoke(cli, ["packets", day, "--json"]).stdout.splitlines()
    known = [json.loads(line) for line in printed]
    assert all(packet in known for packet in packets)


def test_evidence_of_a_compressed_capture_is_the_same(tmp_path, day, alert):
    packed = tmp_path / "day.pcap.gz"
    packed.write_bytes(gzip.compress((tmp_path / "day.pcap").read_bytes()))
    plain, unpacked = (json.dumps(verdicts(path, "--findings", alert, *HOME)) for path in (day, str(packed)))
    assert unpacked.replace(str(packed), day) == plain


def test_rotated_pieces_are_judged_as_one_capture(tmp_path, alert):
    records = case.day()
    cuts = [0, *(i for i in range(300, len(records), 900) if records[i][0] - records[i - 1][0] < 10**9), len(records)]
    assert len(cuts) > 3
    pieces = [case.write(tmp_path / f"{one}.pcap", records[one:other]) for one, other in pairwise(cuts)]
    [verdict] = verdicts(*pieces, "--findings", alert, *HOME)
    assert (verdict["verdict"], verdict["rule"]) == ("backscatter", "R4")
    captures = {packet["capture"] for evidence in verdict["evidence"] for packet in evidence["packets"]}
    assert captures <= set(pieces)


def test_a_real_connection_is_never_backscatter(tmp_path, alert):
    called = case.session(case.moment("2007-03-20T18:04:19"), 1024, (case.REMOTE, 6667))
    path = case.write(tmp_path / "c.pcap", sorted([*case.day(), *called]))
    [verdict] = verdicts(path, "--findings", alert, *HOME)
    assert verdict["verdict"] == "connection_established"


def test_findings_are_told_in_input_order_and_duplicates_once(tmp_path, day):
    first = eve(case.LOCAL, 3072, case.REMOTE, 6667, "2007-03-20T20:17:14.482661+0000")
    second = eve(case.LOCAL, case.PORT, case.FRIEND, 443, "2007-03-20T18:30:00.050000+0000")
    path = tmp_path / "eve.json"
    path.write_text(f"{first}\n{second}\n{first}\n{first}")
    found = verdicts(day, "--findings", str(path), "--findings", str(path), *HOME)
    assert [one["local"]["port"] for one in found] == [3072, case.PORT]
    assert [one["verdict"] for one in found] == ["backscatter", "connection_established"]


def test_a_line_that_cannot_be_read_costs_that_line_and_is_told_with_its_number(tmp_path, day):
    path = tmp_path / "eve.json"
    good = eve(case.LOCAL, 3072, case.REMOTE, 6667, "2007-03-20T20:17:14.482661+0000")
    path.write_text(f'{good}\n{{"event_type": "alert", "src_ip": \n')
    result = triage(day, "--json", "--findings", str(path), *HOME)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert f"{path}: line 2" in result.stderr


def test_findings_that_cannot_be_read_at_all_are_exit_2(tmp_path, day):
    path = tmp_path / "eve.json"
    path.write_text("{")
    assert triage(day, "--findings", str(path)).exit_code == 2
    assert triage(day, "--findings", str(tmp_path / "nowhere")).exit_code == 2


def test_findings_without_a_capture_that_can_be_read_are_exit_2(tmp_path, alert):
    result = triage(alert, "--findings", alert)
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_file_of_events_without_alerts_is_nothing_to_judge(tmp_path, day):
    path = tmp_path / "eve.json"
    path.write_text('{"timestamp": "2007-03-20T20:17:14.482661+0000", "event_type": "stats", "stats": {}}\n')
    result = triage(day, "--findings", str(path), "--json")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no findings" in result.stderr


def test_one_conversation_can_be_judged_without_a_finding(day):
    text = f"tcp {case.LOCAL}:1024 > {case.REMOTE}:6667"
    [verdict] = verdicts(day, "--tuple", text, *HOME)
    assert (verdict["finding"]["source"], verdict["verdict"]) == ("tuple", "backscatter")
    [then] = verdicts(day, "--tuple", text, "--at", "2007-03-20T18:04:19.7Z", *HOME)
    assert (then["rule"], then["band"]) == ("R4", "confirmed")
    [never] = verdicts(day, "--tuple", text, "--at", "2009-01-01T00:00:00Z", *HOME)
    assert (never["verdict"], never["why"]) == ("undetermined", "no_capture")


def test_a_conversation_without_ports_means_all_of_the_two_hosts(day):
    [verdict] = verdicts(day, "--tuple", f"tcp {case.LOCAL} > {case.REMOTE}", *HOME)
    assert verdict["conversations"] == {"backscatter": 2}


def test_a_translated_address_is_found_under_its_other_name(day, tmp_path):
    text = f"tcp 203.0.113.7:1024 > {case.REMOTE}:6667"
    [verdict] = verdicts(day, "--tuple", text, "--alias", f"203.0.113.7={case.LOCAL}", *HOME)
    assert verdict["verdict"] == "backscatter"


@pytest.mark.parametrize(
    "wrong", [(), ("--findings", "a", "--tuple", "tcp 10.0.0.1 > 10.0.0.2"), ("--findings", "a", "--at", "1")]
)
def test_either_findings_or_a_tuple_is_asked_for(day, wrong):
    assert triage(day, *wrong).exit_code == 2


def test_stdin_cannot_be_the_capture_and_the_findings():
    result = triage("-", "--findings", "-")
    assert result.exit_code == 2
    assert "stdin" in result.stderr


@pytest.mark.parametrize(
    ("options", "asked"), [((), True), (HOME, False), (("--alias", f"{case.LOCAL}=10.0.0.5"), False)]
)
def test_whoever_has_public_addresses_is_asked_for_them(day, alert, options, asked):
    result = triage(day, "--findings", alert, *options)
    assert result.exit_code == 0
    assert ("--home" in result.stderr) == asked


def test_several_verdicts_are_a_table_of_one_line_each(day, tmp_path):
    path = tmp_path / "eve.json"
    path.write_text(
        eve(case.LOCAL, 3072, case.REMOTE, 6667, "2007-03-20T20:17:14.482661+0000")
        + "\n"
        + eve(case.LOCAL, case.PORT, case.FRIEND, 443, "2007-03-20T18:30:00.050000+0000")
    )
    result = triage(day, "--findings", str(path), *HOME)
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["VERDICT", "CONFIDENCE", "RULE", "LOCAL", "REMOTE", "COUNT", "SUMMARY"]
    assert [row.split()[0] for row in rows] == ["backscatter", "connection_established"]
    assert "R4" in rows[0]


def test_one_verdict_is_shown_with_its_evidence(day, alert):
    result = triage(day, "--findings", alert, *HOME)
    assert result.exit_code == 0
    for part in ("BACKSCATTER", "confirmed", "R4", f"{case.REMOTE}", "seq 4257997451", "2007-03-20 18:04:19.731091000"):
        assert part in result.stdout


def test_an_alert_cannot_speak_to_the_terminal(day, tmp_path):
    path = tmp_path / "eve.json"
    hostile = {"signature_id": 1, "signature": "\x1b[2J\x1b]0;owned\x07[red]x[/red]\u202e", "severity": 1}
    path.write_text(eve(case.LOCAL, 3072, case.REMOTE, 6667, "2007-03-20T20:17:14.482661+0000", alert=hostile))
    result = triage(day, "--findings", str(path), *HOME)
    assert result.exit_code == 0
    assert not set("\x1b\x07\u202e") & set(result.stdout)
    assert "[red]x[/red]" in result.stdout, "markup means nothing in a stranger's text"


def test_a_report_has_one_page_per_verdict(day, tmp_path):
    path = tmp_path / "eve.json"
    path.write_text(
        eve(case.LOCAL, 3072, case.REMOTE, 6667, "2007-03-20T20:17:14.482661+0000")
        + "\n"
        + eve(case.LOCAL, 1024, case.REMOTE, 6667, "2007-03-20T18:04:19.731429+0000")
    )
    pages = tmp_path / "a" / "pages"
    result = triage(day, "--findings", str(path), "--report", str(pages), *HOME)
    assert result.exit_code == 0
    written = sorted(pages.iterdir())
    assert len(written) == 2
    assert all(page.suffix == ".html" for page in written)
    assert all("4257997451" in page.read_text() or "3118402257" in page.read_text() for page in written)


def test_a_report_that_cannot_be_written_is_told(day, alert, tmp_path):
    (tmp_path / "pages").write_text("in the way")
    result = triage(day, "--findings", alert, "--report", str(tmp_path / "pages"))
    assert result.exit_code == 2
    assert "pages" in result.stderr


def flow_log(path, *, gzipped: bool = False, about: str = "18 OK") -> str:
    """A flow log in which the security group rejects the 2007 SYN+ACKs, amid what our host sends."""
    first = case.AT // 10**9 - 1600  # 18:03:20, a minute before the alert
    lines = ["srcaddr dstaddr srcport dstport protocol packets bytes start end action tcp-flags log-status"]
    lines.append(f"{case.REMOTE} {case.LOCAL} 6667 1024 6 3 180 {first + 60} {first + 80} REJECT {about}")
    lines += [
        f"{case.LOCAL} {case.FRIEND} 30000 443 6 9 900 {first + at} {first + at + 50} ACCEPT 3 OK"
        for at in range(-3000, 3000, 60)
    ]
    data = "\n".join(lines).encode() + b"\n"
    path.write_bytes(gzip.compress(data) if gzipped else data)
    return str(path)


def test_session_records_judge_where_nothing_was_captured(tmp_path):
    alert = tmp_path / "sguil.txt"
    alert.write_text(case.ALERT)
    log = flow_log(tmp_path / "flow.log.gz", gzipped=True)
    code, out, err = case.run("triage", "--sessions", log, "--findings", str(alert), "--home", case.LOCAL, "--json")
    (verdict,) = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "101 session records are of hosts that the alerts name\n")
    assert (verdict["verdict"], verdict["rule"], verdict["band"]) == ("backscatter", "S5", "probable")
    assert verdict["flows"] == []
    assert any("REJECT" in piece["text"] and f"{log}:2" in piece["text"] for piece in verdict["evidence"])


def test_a_question_without_a_time_is_about_all_session_records(tmp_path):
    log = flow_log(tmp_path / "flow.log")
    question = f"tcp {case.LOCAL}:1024 > {case.REMOTE}:6667"
    code, out, _ = case.run("triage", "--sessions", log, "--tuple", question, "--home", case.LOCAL, "--json")
    assert (code, json.loads(out)["rule"]) == (0, "S5")


def test_session_records_stand_beside_captures(tmp_path):
    alert = tmp_path / "sguil.txt"
    alert.write_text(case.ALERT)
    capture = case.write(tmp_path / "day.pcap", case.day())
    log = flow_log(tmp_path / "flow.log")
    _, out, _ = case.run("triage", capture, "--sessions", log, "--findings", str(alert), "--home", case.LOCAL, "--json")
    verdict = json.loads(out)
    assert (verdict["verdict"], verdict["rule"]) == ("backscatter", "R4")
    assert any(piece["text"].startswith("vpc flow log:") and piece["effect"] == "for" for piece in verdict["evidence"])


def test_a_session_file_that_cannot_be_read_is_told(tmp_path):
    alert = tmp_path / "sguil.txt"
    alert.write_text(case.ALERT)
    log = flow_log(tmp_path / "flow.log", about="eighteen OK")
    code, out, err = case.run("triage", "--sessions", log, "--findings", str(alert), "--home", case.LOCAL, "--json")
    assert (code, json.loads(out)["why"]) == (1, "no_capture")
    assert f"{log}: line 2: column tcp-flags: 'eighteen' is no such number" in err


@pytest.mark.parametrize("what", ["missing", "empty", "text", "capture", "zipped capture"])
def test_session_files_that_hold_none_judge_nothing(tmp_path, what):
    alert, log = tmp_path / "sguil.txt", tmp_path / "flow.log"
    alert.write_text(case.ALERT)
    if what == "capture":
        case.write(log, case.pairs())
    elif what != "missing":
        capture = gzip.compress(pcap(case.pairs()))
        log.write_bytes({"empty": b"", "text": b"hello\nworld\n", "zipped capture": capture}[what])
    code, out, err = case.run("triage", "--sessions", str(log), "--findings", str(alert), "--home", case.LOCAL)
    assert (code, out) == (2, b"")
    assert "Error: no session records could be read" in err
    assert str(log) in err
    assert ("this is a packet capture and holds no session records" in err) == ("capture" in what)


def test_beside_captures_a_session_file_that_holds_none_is_only_told(tmp_path):
    alert, log = tmp_path / "sguil.txt", tmp_path / "flow.log"
    alert.write_text(case.ALERT)
    log.write_text("hello\n")
    capture = case.write(tmp_path / "day.pcap", case.day())
    code, out, err = case.run(
        "triage", capture, "--sessions", str(log), "--findings", str(alert), "--home", case.LOCAL, "--json"
    )
    assert (code, json.loads(out)["rule"]) == (1, "R4")
    assert "session records are of hosts" not in err


def test_one_of_captures_and_session_records_is_needed(tmp_path):
    code, _, err = case.run("triage", "--findings", "alerts.json")
    assert code == 2
    assert "name captures, or session records by --sessions" in err


FAST = f"03/20-18:04:19.731429  [**] [1:2000:3] Known Bot C&C [**] [Priority: 1] {{TCP}} {case.LOCAL}:1024 -> {case.REMOTE}:6667"
NOTICE = {"ts": 1174413859.731429, "note": "Bot::C2", "msg": "bot", "proto": "tcp"} | {
    "id.orig_h": case.LOCAL,
    "id.orig_p": 1024,
    "id.resp_h": case.REMOTE,
    "id.resp_p": 6667,
}
OCSF = {
    "class_uid": 2004,
    "finding_info": {"uid": "1", "title": "bot", "first_seen_time": 1174413859731},
    "evidences": [
        {
            "connection_info": {"protocol_num": 6, "direction_id": 2},
            "src_endpoint": {"ip": case.LOCAL, "port": 1024},
            "dst_endpoint": {"ip": case.REMOTE, "port": 6667},
        }
    ],
}
SNORT3 = {
    "timestamp": "03/20-18:04:19.731429",
    "proto": "TCP",
    "src_ap": f"{case.LOCAL}:1024",
    "dst_ap": f"{case.REMOTE}:6667",
    "rule": "1:2000:3",
}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (FAST, "snort"),
        (json.dumps(SNORT3), "snort"),
        (json.dumps(NOTICE), "zeek"),
        (json.dumps(OCSF), "security_hub"),
    ],
    ids=["alert_fast", "alert_json", "notice", "ocsf"],
)
def test_the_2007_alert_is_backscatter_in_every_format(tmp_path, day, text, source):
    """Also where its time has no year: the captures tell it."""
    path = tmp_path / "alerts"
    path.write_text(text + "\n")
    [verdict] = verdicts(day, "--findings", str(path), *HOME)
    assert (verdict["finding"]["source"], verdict["verdict"], verdict["band"]) == (source, "backscatter", "confirmed")
    assert verdict["finding"]["first_seen"].startswith("2007-03-20T18:04:19.731")


def test_times_of_alerts_are_of_the_zone_that_is_told(tmp_path, day):
    path = tmp_path / "alerts"
    path.write_text(FAST.replace("18:04:19", "14:04:19") + "\n")
    [verdict] = verdicts(day, "--findings", str(path), "--alert-zone", "-04:00", *HOME)
    assert verdict["finding"]["first_seen"].startswith("2007-03-20T18:04:19.731")
    assert verdict["verdict"] == "backscatter"
    assert triage(day, "--findings", str(path), "--alert-zone", "Nowhere").exit_code == 2


def test_columns_of_csv_can_be_told(tmp_path, day):
    path = tmp_path / "alert.csv"
    path.write_text(f"{case.LOCAL},1024,{case.REMOTE},6667,TCP,bot,03/20-18:04:19.731429\n")
    columns = "srcip,sport,dstip,dport,protoname,msg,timestamp"
    [verdict] = verdicts(day, "--findings", str(path), "--csv-columns", columns, *HOME)
    assert verdict["verdict"] == "backscatter"


def test_the_public_address_that_a_finding_pairs_itself_is_found_under_the_private_one(tmp_path, day):
    finding = case2007.guardduty_finding()
    finding["resource"] = {
        "instanceDetails": {"networkInterfaces": [{"privateIpAddress": case.LOCAL, "publicIp": "203.0.113.7"}]}
    }
    finding["service"]["action"]["networkConnectionAction"]["localIpDetails"] = {"ipAddressV4": "203.0.113.7"}
    path = tmp_path / "guardduty.json"
    path.write_text(json.dumps(finding))
    [verdict] = verdicts(day, "--findings", str(path), *HOME)
    assert (verdict["local"]["ip"], verdict["verdict"]) == ("203.0.113.7", "backscatter")
    del finding["resource"]
    path.write_text(json.dumps(finding))
    [verdict] = verdicts(day, "--findings", str(path), *HOME)
    assert verdict["verdict"] == "undetermined"


def test_many_lines_that_cannot_be_read_are_told_in_two(tmp_path, day):
    path = tmp_path / "eve.json"
    lines = [FAST, '{"torn'] * 50 + ["", FAST]
    path.write_text("\n".join(lines))
    result = triage(day, "--json", "--findings", str(path), *HOME)
    assert result.exit_code == 1
    told = [line for line in result.stderr.splitlines() if "eve.json" in line]
    assert len(told) == 2
    assert "line 2: broken JSON" in told[0]
    assert "and 49 more like it: lines 4, 6, 8" in told[1]
