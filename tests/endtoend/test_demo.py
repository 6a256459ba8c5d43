"""The demo as a person runs it, and what is left when it is stopped in the middle: nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

# Beside the tests of the deployed stack, not at the same time: both want a processor.
pytestmark = pytest.mark.xdist_group("cloud")

DEMO = [sys.executable, "-m", "backscatter", "demo"]

#: What a caller may have set: none of it must reach the local cloud, and none of it is needed.
HOSTILE = {
    "AWS_PROFILE": "no-such-profile",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "AKIAREALLOOKINGKEY",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_DEFAULT_REGION": "ap-south-2",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "GATEWAY_PORT": "9",
    "S3_PERSIST": "1",
}


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def started(tmp_path):
    """A demo that has its local cloud running, and the cloud's port."""
    demo = subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **HOSTILE, "TMPDIR": str(tmp_path)},
    )
    line = demo.stderr.readline()
    port = int(re.search(r"http://127\.0\.0\.1:([0-9]+)", line)[1])
    assert is_open(port)
    return demo, port


def test_the_demo_ends_as_it_must_whatever_the_caller_has_set(tmp_path):
    done = subprocess.run(
        DEMO,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, **HOSTILE, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "BACKSCATTER (confirmed",
        '"rule": "R4"',
        "Flags [S.], seq 4257997451, ack 2934031229, win 2048",
        "The capture woke it",
        "REAL CONNECTION",
        "All three plays ended as they must: 4 verdicts, 4 mails, 4 chat messages",
    ):
        assert part in done.stdout
    assert "waiting for the verdict" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_demo_that_is_stopped_leaves_no_process_and_no_file(tmp_path, how):
    demo, port = started(tmp_path)
    time.sleep(2)  # in the middle of its work
    demo.send_signal(how)
    _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 128 + how
    assert "Traceback" not in errors
    assert not is_open(port)
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_killed_takes_its_cloud_with_it(tmp_path):
    demo, port = started(tmp_path)
    demo.kill()
    demo.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while is_open(port):
        assert time.monotonic() < deadline, "the local cloud outlives the demo"
        time.sleep(0.05)


@pytest.mark.parametrize("after", [0.1, 0.8])
def test_a_demo_that_is_stopped_early_leaves_no_file(tmp_path, after):
    demo, _ = started(tmp_path)
    time.sleep(after)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert list(tmp_path.iterdir()) == []
