"""`backscatter`: the commands, and what becomes of everything that can go wrong in them.

Data goes to stdout, everything else to stderr. Exit codes:

    0    done
    1    done, but some input was damaged, cut short or unreadable; stderr says what, where and how much
    2    wrong usage, or nothing could be read
    130  interrupted (128 + SIGINT, as shells say it)
    141  whoever read our output went away (128 + SIGPIPE)
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from backscatter import __version__
from backscatter.errors import BackscatterError

#: command -> where it is. A command's module is imported when it is called: start-up is most of a small capture's time.
COMMANDS = {
    "flows": "backscatter.cli.flows:flows",
    "packets": "backscatter.cli.packets:packets",
    "captures": "backscatter.cli.captures:captures",
    "ingest": "backscatter.cli.ingest:ingest",
    "triage": "backscatter.cli.triage:triage",
    "floods": "backscatter.cli.floods:floods",
    "demo": "backscatter.cli.demo:demo",
}

INTERRUPTED, READER_GONE = 130, 141


class Failure(click.ClickException):
    """Nothing could be done, for a reason that the message gives."""

    exit_code = 2


class Commands(click.Group):
    """The group of commands. No exception that bad input can cause leaves it as a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands in the order of the walk, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of a name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        if not gc.isenabled():  # `main` left it so: what is imported stays, and is looked through no more
            gc.freeze()
            gc.enable()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what may go wrong into a line on stderr and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a reader that went away can still be answered
        except KeyboardInterrupt:
            _forget_stdout()
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(READER_GONE)
        except BackscatterError as error:
            raise Failure(_printable(str(error))) from error
        except OSError as error:
            if error.filename is None:
                _forget_stdout()  # it may be stdout that takes no more, as on a full disk
            where = f"{error.filename}: " if error.filename is not None else ""
            raise Failure(_printable(f"{where}{error.strerror or error}")) from error
        except MemoryError as error:
            raise Failure("out of memory: narrow the input, such as to fewer files at a time") from error
        return result


def examples(*commands: str) -> str:
    """The end of a command's help: commands that one can paste."""
    return "\n".join(
        ["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {command}" for command in commands)]
    )


def _printable(text: str) -> str:
    from backscatter.cli.terminal import printable  # noqa: PLC0415 - only needed when something failed

    return printable(text)


def _forget_stdout() -> None:
    """Send what is still buffered nowhere, or the interpreter would complain about it at exit."""
    with contextlib.suppress(io.UnsupportedOperation):  # a stream without a descriptor has no reader to lose
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _steady_streams() -> None:
    """Let no character and no closed stream stop a command: names of files and alerts hold what they like."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # started with the descriptor closed, as by `>&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "backscatter triage capture.pcap --findings eve.json --home 192.0.2.0/24",
    ),
)
@click.version_option(__version__, prog_name="backscatter")
def cli() -> None:
    """Is this alert real, or the answer of a flooded stranger to packets forged with our address?

    Data goes to stdout, everything else to stderr. Exit code 0: done. 1: done, but some input was damaged, cut
    short or unreadable. 2: wrong usage, or nothing could be read.
    """


def main() -> None:
    """The entry point."""
    # NumPy's BLAS starts a thread pool that nothing here uses: 40 ms of every start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # while modules are imported: see Commands
    _steady_streams()
    cli(prog_name="backscatter")
