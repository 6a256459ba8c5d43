"""The files that a command is to read: each once, each readable more than once."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from backscatter.decode.columns import MOST_PIECES
from backscatter.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from backscatter.cli.terminal import Speaker

STDIN = "-"


class Source(NamedTuple):
    """A file to read.

    name  as the person wrote it: every message and every packet's evidence cites it
    path  where its bytes can be opened again and again
    size  in bytes, as stored
    """

    name: str
    path: Path
    size: int

    def open(self) -> BinaryIO:
        """The bytes, from the start."""
        return self.path.open("rb")


def sources(names: Iterable[str], speaker: Speaker, stack: ExitStack) -> list[Source]:
    """What can be opened of the files named, each once; `-` is stdin. Problems are told to `speaker`.

    Pipes and stdin can be read only once, but evidence is read back from where it lies: they are copied to a
    temporary folder that goes when `stack` is closed. Raises RequestError for more files than can be told apart.
    """
    found: list[Source] = []
    known: dict[tuple[int, int], str] = {}
    for name in names:
        try:
            state = os.fstat(sys.stdin.fileno()) if name == STDIN else os.stat(name)  # noqa: PTH116 - "-" has no Path
            identity = state.st_dev, state.st_ino
            if identity in known:
                speaker.note(f"{name}: is the same file as {known[identity]}; it is read once")
                continue
            known[identity] = name
            if stat.S_ISDIR(state.st_mode):
                speaker.problem(f"{name}: is a directory; name the files in it")
            elif stat.S_ISREG(state.st_mode) and name != STDIN:
                with Path(name).open("rb"):  # permissions are told here, beside the other problems
                    found.append(Source(name, Path(name), state.st_size))
            elif stat.S_ISFIFO(state.st_mode) or name == STDIN:
                found.append(_kept(name, stack))
            else:
                speaker.problem(f"{name}: is neither a file nor a pipe")
        except (OSError, ValueError) as error:  # ValueError: a null character in the name, or a stdin that is closed
            reason = error.strerror if isinstance(error, OSError) else None
            speaker.problem(f"{name}: {reason or error}")
    if len(found) > MOST_PIECES:
        raise RequestError(f"{len(found)} files are more than the {MOST_PIECES} that can be read as one: name fewer")
    return found


def _kept(name: str, stack: ExitStack) -> Source:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backscatter-")))
    kept = folder / "input"
    with kept.open("wb") as copy:
        if name == STDIN:
            shutil.copyfileobj(cast("BinaryIO", sys.stdin.buffer), copy)
        else:
            with Path(name).open("rb") as pipe:
                shutil.copyfileobj(pipe, copy)
    return Source(name, kept, kept.stat().st_size)
