"""What every command promises: stdout for data, stderr for all else, exit codes, no traceback."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner
from tests.cli import case

from backscatter import __version__
from backscatter.cli.main import COMMANDS, cli


def invoke(*arguments: str):
    return CliRunner().invoke(cli, arguments)


def test_the_version_is_told():
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"backscatter, version {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_in_its_help(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"  backscatter {name}" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name):
    command = cli.get_command(click.Context(cli), name)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", ["flows", "packets", "triage"])
def test_a_command_without_captures_is_wrong_usage(name):
    result = invoke(name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "CAPTURE" in result.stderr


def test_an_unknown_command_is_wrong_usage():
    assert invoke("florws").exit_code == 2


@pytest.mark.parametrize("name", ["flows", "packets"])
def test_a_missing_file_alone_is_exit_2_and_named(name):
    result = invoke(name, "nowhere.pcap")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nowhere.pcap: No such file or directory" in result.stderr


@pytest.mark.parametrize("name", ["flows", "packets"])
def test_a_missing_file_beside_a_good_one_is_exit_1_and_the_good_one_is_read(name, tmp_path):
    result = invoke(name, "nowhere.pcap", case.write(tmp_path / "case.pcap", case.pairs()))
    assert result.exit_code == 1
    assert "nowhere.pcap" in result.stderr
    assert "193.109.122.67" in result.stdout


@pytest.mark.parametrize("name", ["flows", "packets"])
def test_a_directory_is_no_capture(name, tmp_path):
    result = invoke(name, str(tmp_path))
    assert result.exit_code == 2
    assert f"{tmp_path}: is a directory" in result.stderr


@pytest.mark.parametrize("name", ["flows", "packets"])
def test_what_is_no_capture_gets_one_line_that_says_what_it_seems_to_be(name, tmp_path):
    other = tmp_path / "eve.json"
    other.write_text('{"event_type": "alert"}\n')
    result = invoke(name, str(other))
    assert (result.exit_code, result.stdout) == (2, "")
    [line, *_] = [line for line in result.stderr.splitlines() if str(other) in line]
    assert "JSON" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    Path(path).chmod(0)
    result = invoke("flows", path)
    assert result.exit_code == 2
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize("name", ["flows", "packets"])
def test_a_capture_cut_in_mid_record_is_exit_1_and_says_where_and_how_much(name, tmp_path):
    whole = tmp_path / "case.pcap"
    case.write(whole, case.pairs())
    size = whole.stat().st_size
    whole.write_bytes(whole.read_bytes()[:-10])
    result = invoke(name, str(whole))
    assert result.exit_code == 1
    offset = size - 16 - 54
    assert f"{whole}: byte {offset}: 60 bytes not read" in result.stderr
    assert "3072" in result.stdout, "the packets before the cut are printed"


def test_the_same_file_named_twice_is_read_once_and_told(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    (tmp_path / "again.pcap").symlink_to(path)
    once, twice = invoke("flows", "--json", path), invoke("flows", "--json", path, str(tmp_path / "again.pcap"))
    assert twice.stdout == once.stdout
    assert "is the same file as" in twice.stderr
    assert twice.exit_code == 0


def test_more_files_than_can_be_told_apart_are_refused(tmp_path, monkeypatch):
    names = [case.write(tmp_path / f"{n}.pcap", case.pairs()) for n in range(3)]
    monkeypatch.setattr("backscatter.cli.source.MOST_PIECES", 2)
    result = invoke("flows", *names)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "3 files are more than the 2 that can be read as one: name fewer" in result.stderr


def test_a_capture_comes_from_stdin_too(tmp_path):
    data = Path(case.write(tmp_path / "case.pcap", case.pairs())).read_bytes()
    code, out, err = case.run("packets", "-", stdin=data)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 4


def test_a_named_pipe_is_read_although_it_can_be_read_only_once(tmp_path):
    data = Path(case.write(tmp_path / "case.pcap", case.pairs())).read_bytes()
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    result = invoke("packets", f"/dev/fd/{reading}")
    os.close(reading)
    assert len(result.stdout.splitlines()) == 4


def test_a_device_is_refused_not_read_forever():
    result = invoke("flows", "/dev/zero")
    assert result.exit_code == 2
    assert "/dev/zero: is neither a file nor a pipe" in result.stderr


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path):
    path = case.write(tmp_path / "day.pcap", case.day())  # much more than a pipe holds
    with subprocess.Popen(
        [sys.executable, "-m", "backscatter", "packets", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 128 + signal.SIGPIPE


def test_an_interrupt_ends_the_command_without_a_traceback(tmp_path):
    path = case.write(tmp_path / "day.pcap", case.day())  # much more than a pipe holds
    with subprocess.Popen(
        [sys.executable, "-m", "backscatter", "packets", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"interrupted\n"
        assert process.wait(30) == 128 + signal.SIGINT


def test_local_commands_never_import_the_cloud(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "backscatter", "flows", "--json", path],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & {"boto3", "botocore", "rich", "jinja2", "aws_lambda_powertools"} == set()


def test_a_file_name_cannot_speak_to_the_terminal(tmp_path):
    result = invoke("flows", str(tmp_path / "\x1b[31mred\x1b]0;title\x07.pcap"))
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr


def test_a_file_name_of_any_bytes_is_read_and_reported(tmp_path):
    capture = tmp_path / os.fsdecode(b"caf\xe9\xff.pcap")
    case.write(capture, case.day())
    (tmp_path / "alert").write_text(case.ALERT)
    findings = ("--findings", str(tmp_path / "alert"), "--home", case.LOCAL)
    code, out, err = case.run("triage", str(capture), *findings, "--report", str(tmp_path / "pages"))
    assert code == 0, err
    assert b"BACKSCATTER" in out
    assert len(list((tmp_path / "pages").iterdir())) == 1


def test_a_terminal_of_another_encoding_costs_no_output(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    (tmp_path / "eve.json").write_text(case.ALERT.replace("Known Bot", "\u0416nown Bot"), encoding="utf-8")
    findings = ("--findings", str(tmp_path / "eve.json"), "--home", case.LOCAL)
    code, out, err = case.run("triage", path, *findings, environment={"PYTHONIOENCODING": "latin-1"})
    assert (code, err) == (0, "")
    assert rb"\u0416nown Bot" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "backscatter", "flows", path], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (2, b"Error: No space left on device\n")


def test_a_closed_stdout_is_no_traceback(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m backscatter flows {path} >&-"], stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def on_a_terminal(*arguments: str) -> bytes:
    """What the command writes to a terminal of 200 columns that is its stdout."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (50, 200))
    with subprocess.Popen([sys.executable, "-m", "backscatter", *arguments], stdout=its, stderr=subprocess.DEVNULL):
        os.close(its)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while some := os.read(ours, 65536):
                seen += some
    os.close(ours)
    return seen


def test_colours_are_for_terminals_alone(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    shown, piped = on_a_terminal("flows", path), case.run("flows", path)[1]
    assert b"\x1b[1mSTART" in shown
    assert b"\x1b" not in piped
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
    assert plain.split() == piped.split()


def test_a_narrow_window_cuts_nothing_off_in_a_pipe(tmp_path):
    path = case.write(tmp_path / "case.pcap", case.pairs())
    code, out, _ = case.run("flows", path, environment={"COLUMNS": "20"})
    assert code == 0
    assert out == case.run("flows", path, environment={"COLUMNS": "300"})[1]


def test_demo_ends_with_the_exit_code_of_the_play(monkeypatch):
    stage = ModuleType("backscatter.demo.stage")
    stage.play = lambda: 3
    monkeypatch.setitem(sys.modules, "backscatter.demo.stage", stage)
    assert invoke("demo").exit_code == 3


def test_demo_writes_the_case_and_the_commands_that_it_names_judge_it(tmp_path):
    folder = tmp_path / "case"
    written = CliRunner().invoke(cli, ["demo", "--write", str(folder)])
    assert written.exit_code == 0
    *_, triage = written.stdout.splitlines()
    verdict = CliRunner().invoke(cli, [*shlex.split(triage)[1:], "--json"])
    record = json.loads(verdict.stdout)
    assert (record["verdict"], record["rule"], record["band"]) == ("backscatter", "R4", "confirmed")
    assert record["victim"] == {"ip": "193.109.122.67", "port": 6667, "proto": "tcp"}


def test_demo_says_where_it_could_not_write(tmp_path):
    (tmp_path / "file").write_text("")
    assert CliRunner().invoke(cli, ["demo", "--write", str(tmp_path / "file")]).exit_code == 2
