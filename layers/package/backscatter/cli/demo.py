"""`backscatter demo`: the 2007 case on a local cloud."""

from __future__ import annotations

import click

from backscatter.cli.main import examples


@click.command(
    short_help="Play the 2007 case on an embedded local cloud.",
    epilog=examples(
        "backscatter demo",
    ),
)
def demo() -> None:
    """Deploy the real template into a local AWS, upload the 2007 capture, send its alert and show the notice.

    Needs no account and no credentials; everything that it starts ends with it.
    """
    from backscatter.demo.stage import play  # noqa: PLC0415 - the local cloud is needed here alone

    click.get_current_context().exit(play())
