"""A cloud on this machine: ministack on the loopback interface, in a temporary folder, for as long as one is inside.

Nothing of the caller's AWS configuration reaches it or its clients, and nothing of it stays: neither process nor file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import botocore.session
from botocore.config import Config

from backscatter.demo.folder import remove
from backscatter.errors import RequestError

if TYPE_CHECKING:
    from types import TracebackType

REGION = "us-east-1"
ACCOUNT = "000000000000"

#: Starting takes a third of a second; a machine with two busy cores needs more.
START_SECONDS = 60.0
#: ministack leaves its workers behind on SIGTERM, so the group gets this long before SIGKILL.
STOP_SECONDS = 1.0

# The caller's death closes this process' standard input: then the whole group goes, whatever killed the caller.
_RUN = """
import os, runpy, signal, sys, threading
def follow():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=follow, daemon=True).start()
sys.argv = ["ministack"]
runpy.run_module("ministack", run_name="__main__")
"""


class LocalCloud:
    """Context manager around one ministack process group. `endpoint` is its URL, `log` what it printed."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._session: boto3.session.Session | None = None

    @property
    def log(self) -> Path:
        """What the emulator and the functions printed."""
        return self._folder / "log.txt"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="backscatter-cloud-"))
        try:
            # Somebody else may take the free port before ministack does.
            started = any(self._start(_free_port()) for _ in range(3))
        except BaseException:
            self._stop()
            raise
        if started:
            return self
        tail = self.log.read_text(errors="replace")[-2000:]
        self._stop()
        raise RequestError(f"the local cloud (ministack) does not start; it printed:\n{tail}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud, whatever the caller's AWS configuration says."""
        if self._session is None:
            # (name in the config file, environment variable, default, conversion): the caller's are not looked up.
            nothing: dict[str, Any] = {
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
            self._session = boto3.session.Session(
                aws_access_key_id=ACCOUNT,
                aws_secret_access_key="local",  # noqa: S106  # ministack takes any
                region_name=REGION,
                botocore_session=botocore.session.Session(session_vars=nothing),
            )
        # No proxy of the caller's between us and the loopback interface.
        config = Config(proxies={}, retries={"mode": "standard"}, s3={"addressing_style": "path"})
        return self._session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]

    def _start(self, port: int) -> bool:
        self.endpoint = f"http://127.0.0.1:{port}"
        # Only what a process needs to run: no AWS_*, no endpoint, no proxy, no settings of another ministack.
        environment = {
            name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ
        }
        environment |= {
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "STATE_DIR": str(self._folder / "state"),
            "S3_DATA_DIR": str(self._folder / "s3"),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "127.0.0.1",
            "SFTP_ENABLED": "0",  # these two listen on fixed ports
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "OPENBLAS_NUM_THREADS": "1",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and text
                [sys.executable, "-c", _RUN],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                opener.open(f"{self.endpoint}/_ministack/health", timeout=2).close()
                return True
            time.sleep(0.05)
        self._end_process()
        return False

    def _stop(self) -> None:
        self._end_process()
        remove(self._folder)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin:
            process.stdin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
