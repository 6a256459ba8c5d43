"""`backscatter demo`: the 2007 case, played on a local cloud or written out for the commands of the laptop."""

from __future__ import annotations

from pathlib import Path

import click

from backscatter.cli.main import Failure, examples


@click.command(
    short_help="Play the 2007 case on an embedded local cloud.",
    epilog=examples(
        "backscatter demo",
        "backscatter demo --write case",
    ),
)
@click.option("--write", "folder", metavar="DIR", help="Write the capture and the alert into DIR instead.")
def demo(folder: str | None) -> None:
    """Deploy the real template into a local AWS, upload the 2007 capture, send its alert and show the notice.

    Needs no account and no credentials; everything that it starts ends with it. With --write, nothing is started: the
    case's capture and its alert become files for the other commands to work on.
    """
    if folder is not None:
        _write(Path(folder))
        return
    from backscatter.demo.stage import play  # noqa: PLC0415 - the local cloud is needed here alone

    click.get_current_context().exit(play())


def _write(folder: Path) -> None:
    from backscatter.demo import case2007  # noqa: PLC0415 - making the case takes a moment, and no other command does

    capture, alert = folder / "2007-03-20.pcap", folder / "sguil.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        capture.write_bytes(case2007.capture())
        alert.write_text(case2007.sguil_alert(), encoding="ascii")
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}; name a folder that can be written") from error
    home, victim = case2007.OURS, case2007.VICTIM
    click.echo(f"Wrote {capture} and {alert}. Now try", err=True)
    click.echo(f"backscatter flows {capture} --host {victim}")
    click.echo(f"backscatter packets {capture} --host {victim}")
    click.echo(f"backscatter triage {capture} --findings {alert} --home {home}")
