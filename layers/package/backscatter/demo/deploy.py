"""The real template on a local cloud: layers built for the Python at hand, code uploaded, the stack created.

What `sam build` and `sam deploy` do for AWS, without sam-cli: only the four local paths in the template are replaced.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backscatter.demo.folder import remove
from backscatter.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backscatter.demo.localcloud import LocalCloud

#: The clone that this file lies in.
ROOT = Path(__file__).resolve().parents[4]

#: The event source of findings that we send ourselves: PutEvents refuses aws.*, here as in AWS.
FINDING_SOURCE = "demo.guardduty"

_CODE = re.compile(r"^( +(?:CodeUri|ContentUri): )(\S+)$", re.MULTILINE)
_BUCKET = "backscatter-artefacts"


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack: the template's outputs by name."""

    name: str
    outputs: Mapping[str, str]

    def __getitem__(self, output: str) -> str:
        return self.outputs[output]


def deploy(
    cloud: LocalCloud,
    *,
    name: str = "backscatter",
    parameters: Mapping[str, str] | None = None,
    root: Path = ROOT,
    say: Callable[[str], None] = lambda _: None,
) -> Stack:
    """Create the stack of `root`'s template in the local cloud and return it. `say` hears what is being done.

    Raises RequestError where this is no clone, where a layer cannot be built, or where the stack cannot be created.
    """
    template = root / "template.yaml"
    if not template.is_file():
        raise RequestError(f"{template} is not there: the local cloud is set up from a clone of the repository")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=_BUCKET)
    text = template.read_text()
    for path in sorted({found[1] for found in _CODE.findall(text)}):
        say(f"packing {path}")
        s3.put_object(Bucket=_BUCKET, Key=path, Body=artefact(root, path))
    say("creating the stack from template.yaml")
    return _create(cloud, name, _CODE.sub(rf"\1s3://{_BUCKET}/\2", text), parameters or {})


def artefact(root: Path, path: str) -> bytes:
    """The zip file of one local path of the template: a function's folder, or a layer as its Makefile builds it."""
    if path.startswith("functions/"):
        return _zipped(root / path)
    source = root / path
    target = _CODE_TARGET[path]
    if target != "build-DependenciesLayer":
        return _built(source, target)
    # Third-party packages change with the lock, the recipe or the Python only; building them takes seconds.
    recipe = (source / "requirements.txt").read_bytes() + (source / "Makefile").read_bytes() + sys.version.encode()
    kept = root / ".setup" / "layers" / f"{hashlib.sha256(recipe).hexdigest()[:16]}.zip"
    if not kept.is_file():
        built = _built(source, target)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".part", delete=False) as part:
            part.write(built)
        Path(part.name).replace(kept)  # whoever else builds it at the same time makes the same
    return kept.read_bytes()


_CODE_TARGET = {"layers/package": "build-PackageLayer", "layers/dependencies": "build-DependenciesLayer"}


def _built(source: Path, target: str) -> bytes:
    make = shutil.which("make")
    if make is None:
        raise RequestError("make is not installed; the layers are built by their Makefiles")
    folder = Path(tempfile.mkdtemp(prefix="backscatter-layer-"))
    try:
        layer, scratch = folder / "layer", folder / "scratch"
        scratch.mkdir()
        command = [make, "-s", "-C", str(source), target]
        command += [f"ARTIFACTS_DIR={layer}", f"PYTHON={sys.executable}", "ARCHITECTURE=host"]
        printed, failed = _run(command, scratch)
        if failed:
            raise RequestError(f"{target} in {source} failed:\n{printed}")
        return _zipped(layer)
    finally:
        remove(folder)


def _run(command: list[str], scratch: Path) -> tuple[str, int]:
    """What a command prints, and its exit code. Whoever interrupts us ends it with all that it started.

    What it keeps for itself (pip unpacks a lot) it keeps in `scratch`.
    """
    with subprocess.Popen(  # noqa: S603  # our Makefile
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as process:
        try:
            printed, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return printed, process.returncode


def _zipped(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return out.getvalue()


def _create(cloud: LocalCloud, name: str, template: str, parameters: Mapping[str, str]) -> Stack:
    cloudformation = cloud.client("cloudformation")
    values = {"FindingSource": FINDING_SOURCE, **parameters}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=template,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    deadline = time.monotonic() + 120
    while True:
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        if stack["StackStatus"] == "CREATE_COMPLETE":
            return Stack(name, {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]})
        if stack["StackStatus"] != "CREATE_IN_PROGRESS" or time.monotonic() > deadline:
            events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            failed = [
                f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
                for event in events
                if event.get("ResourceStatusReason")
            ]
            raise RequestError(f"stack {name} is {stack['StackStatus']}: " + "; ".join(failed))
        time.sleep(0.1)
