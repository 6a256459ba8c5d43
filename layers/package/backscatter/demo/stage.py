"""The demo: the real template on a local cloud, and three short plays, each with the verdict that it must end in."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.text import Text

from backscatter.cloud.dynamo import DynamoItems
from backscatter.cloud.objects import ObjectName
from backscatter.demo import case2007
from backscatter.demo.audience import Audience
from backscatter.demo.deploy import FINDING_SOURCE, deploy
from backscatter.demo.localcloud import LocalCloud
from backscatter.errors import RequestError
from backscatter.store.captures import is_listed
from backscatter.store.catalogue import CaptureObject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from backscatter.demo.deploy import Stack

#: Where the sensor of the play puts its captures, and how it names them (tcpdump -G behind a mirror).
FOLDER = "packet-captures/i-0demo"
#: In the JSON that is shown; all of it goes to EventBridge.
LEFT_OUT = ("flows",)

NEXT = (
    ("backscatter triage CAPTURE... --findings ALERTS", "the same judgement on your own files, without a cloud"),
    ("backscatter flows CAPTURE...", "what is in a capture"),
    ("docs/cloud.md", "how to deploy, and what it costs"),
)

LATER_FINDING = "2ac0c2007b1b4d6e9c3f5a7b8d9e0f13"
CALL_FINDING = "3bc0c2007c1b4d6e9c3f5a7b8d9e0f14"


class Failed(RequestError):
    """A play did not end as it must."""


@dataclass(slots=True)
class Theatre:
    """A deployed stack, who listens to it, and where all of it is shown: results on `out`, progress on `aside`."""

    cloud: LocalCloud
    stack: Stack
    audience: Audience
    out: Console
    aside: Console

    def upload(self, key: str, body: bytes) -> list[CaptureObject]:
        """Put an object into the capture bucket. Returns what it may be known as."""
        bucket = self.stack["CaptureBucket"]
        answer = self.cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
        # AWS's events name the version; those of ministack do not, so there it is known by its etag.
        names = ObjectName(bucket, key, answer["VersionId"]), ObjectName(bucket, key, etag=answer["ETag"].strip('"'))
        return [CaptureObject(bucket, key, name.identity) for name in names]

    def upload_capture(self, name: str, body: bytes) -> None:
        """Put a capture into the bucket and wait until it is listed."""
        known_as = self.upload(f"{FOLDER}/{name}", body)
        items = DynamoItems(self.cloud.client("dynamodb"), self.stack["Table"])
        with self.step(f"capture {name} ({len(body):,} bytes) uploaded: waiting for its flows"):
            deadline = time.monotonic() + 60
            while not any(is_listed(items, source) for source in known_as):
                if time.monotonic() > deadline:
                    raise Failed(f"{name} was not ingested within 60 s; the log of the local cloud ends:\n{self.log()}")
                time.sleep(0.1)

    def report(self, finding: dict[str, Any]) -> str:
        """Send a finding as GuardDuty's event; returns its id."""
        entry = {"Source": FINDING_SOURCE, "DetailType": "GuardDuty Finding", "Detail": json.dumps(finding)}
        answer = self.cloud.client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise Failed(f"the local EventBridge refused the finding: {answer['Entries']}")
        self.aside.print("  GuardDuty finding sent by EventBridge")
        return str(finding["id"])

    def verdict(self, finding: str, **expected: object) -> dict[str, Any]:
        """Wait for the verdict on a finding and hold it to what it must be. Raises Failed where it is anything else."""
        with self.step("waiting for the verdict"):
            try:
                verdict = self.audience.verdict_on(finding)
            except RequestError as error:
                raise Failed(f"{error}; the log of the local cloud ends:\n{self.log()}") from error
        for name, value in expected.items():
            if verdict[name] != value:
                raise Failed(
                    f"the verdict on {finding} has {name} {verdict[name]!r}, it must be {value!r}:\n{_json(verdict)}"
                )
        return verdict

    def show_mail(self, verdict: dict[str, Any]) -> None:
        """Print the mail that told a verdict."""
        mail = self.audience.mail_of(verdict)
        assert mail is not None
        self.out.print(Text(f"  Subject: {mail.subject}", style="bold"), soft_wrap=True)
        for line in mail.body.splitlines():
            self.out.print(Text(f"  {line}"), soft_wrap=True)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that something takes time, and afterwards how much."""
        with timed(self.aside, what):
            yield

    def log(self) -> str:
        """The end of what the local cloud and its functions printed."""
        return self.cloud.log.read_text(errors="replace")[-3000:]


def play() -> int:
    """Set the stage, play, and clear it away. Returns the exit code: 0 if all three plays ended as they must."""
    out, aside = Console(highlight=False), Console(stderr=True, highlight=False)
    began = time.monotonic()
    with _ending_when_told():
        try:
            with LocalCloud() as cloud:
                theatre = _set(cloud, out, aside)
                ready = time.monotonic()
                _capture_first(theatre)
                _finding_first(theatre)
                _real_call(theatre)
                _where_next(theatre, ready - began, time.monotonic() - ready)
        except RequestError as error:
            aside.print(Text(f"The demo failed: {error}", style="bold red"), soft_wrap=True)
            return 1
    return 0


def _set(cloud: LocalCloud, out: Console, aside: Console) -> Theatre:
    aside.print(f"A local AWS (ministack) runs on {cloud.endpoint}; nothing leaves this machine.", soft_wrap=True)
    with timed(aside, "building the layers and deploying template.yaml") as say:
        stack = deploy(cloud, parameters={"HomeNetworks": f"{case2007.OURS}/32"}, say=say)
    return Theatre(cloud, stack, Audience(cloud, stack), out, aside)


def _capture_first(theatre: Theatre) -> None:
    theatre.out.rule("1. The case of March 2007: the capture, then its alert", align="left")
    theatre.upload_capture("2007-03-20-17-49.pcap", case2007.capture())
    expected: dict[str, object] = {
        "verdict": "backscatter",
        "rule": "R4",
        "band": "confirmed",
        "victim": {"ip": case2007.VICTIM, "port": case2007.IRC, "proto": "tcp"},
    }
    theatre.upload("alerts/sguil/2007-03-20.txt", case2007.sguil_alert().encode())
    theatre.aside.print("  the alert, as text of Sguil, uploaded under alerts/")
    by_sguil = theatre.verdict("1.204541", **expected)
    theatre.out.print("The mail that came out of SNS:")
    theatre.show_mail(by_sguil)
    by_guardduty = theatre.verdict(theatre.report(case2007.guardduty_finding()), **expected)
    theatre.out.print("The same case as a GuardDuty finding; its verdict as JSON, as EventBridge carries it:")
    theatre.out.print(
        Text(_json({name: value for name, value in by_guardduty.items() if name not in LEFT_OUT})), soft_wrap=True
    )


def _finding_first(theatre: Theatre) -> None:
    theatre.out.rule("2. The other order: the finding first, its capture later", align="left")
    later = case2007.DAY
    finding = theatre.report(case2007.guardduty_finding(later, finding=LATER_FINDING))
    with theatre.step("nothing to judge it by yet: it is kept as pending"):
        time.sleep(2)
        theatre.audience.hear()
    if any(verdict["finding"]["id"] == finding for verdict in theatre.audience.verdicts):
        raise Failed(f"finding {finding} was told before its capture came")
    theatre.upload_capture("2007-03-21-17-49.pcap", case2007.capture(later))
    verdict = theatre.verdict(finding, verdict="backscatter", rule="R4", band="confirmed")
    theatre.out.print(Text(f"The capture woke it: {verdict['summary']}"), soft_wrap=True)


def _real_call(theatre: Theatre) -> None:
    theatre.out.rule("3. A host that really calls its controller", align="left")
    later = 2 * case2007.DAY
    theatre.upload_capture("2007-03-22-17-49.pcap", case2007.calling_capture(later))
    finding = case2007.guardduty_finding(later, remote=case2007.CONTROLLER, ours=1042, finding=CALL_FINDING)
    verdict = theatre.verdict(theatre.report(finding), verdict="connection_established")
    theatre.show_mail(verdict)


def _where_next(theatre: Theatre, setting: float, playing: float) -> None:
    theatre.out.rule("Where to look next", align="left")
    for command, what in NEXT:
        theatre.out.print(Text(f"{command:<48} {what}"), soft_wrap=True)
    heard = theatre.audience
    theatre.out.print(
        f"All three plays ended as they must: {len(heard.verdicts)} verdicts, {len(heard.mails)} mails, "
        f"{len(heard.chats)} chat messages; {setting:.0f} s to set up, {playing:.0f} s to play.",
        soft_wrap=True,
    )


class _Say:
    """Progress within a step: shown while it lasts."""

    def __init__(self, console: Console, what: str) -> None:
        self._status = console.status(what) if console.is_terminal else None
        self._what = what

    def __call__(self, detail: str) -> None:
        if self._status:
            self._status.update(f"{self._what}: {detail}")

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()


@contextlib.contextmanager
def timed(console: Console, what: str) -> Iterator[_Say]:
    """A step with a spinner on a terminal, and a line with its duration once it is done."""
    began = time.monotonic()
    with _Say(console, what) as say:
        yield say
    console.print(f"  {what}: {time.monotonic() - began:.1f} s", soft_wrap=True)


@contextlib.contextmanager
def _ending_when_told() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, unwind the stack, so that everything that was started is stopped."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup wants it to go on
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _json(verdict: dict[str, Any]) -> str:
    return json.dumps(verdict, indent=2, ensure_ascii=False)
