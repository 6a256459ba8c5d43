"""Writes docs/cli.md from the help of the commands themselves. A test fails where the page is older than they are."""

from __future__ import annotations

from pathlib import Path

import click

from backscatter.cli.main import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"

HEAD = """# Commands

This page is what the commands say of themselves, written by `python scripts/cli_reference.py`.
"""


def reference() -> str:
    """The page: the help of every command."""
    top = click.Context(cli, info_name="backscatter", terminal_width=100, **cli.context_settings)
    parts = [HEAD, _section("backscatter", cli, top)]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        parts.append(_section(f"backscatter {name}", command, click.Context(command, top, name, terminal_width=100)))
    return "\n".join(parts)


def _section(title: str, command: click.Command, context: click.Context) -> str:
    return f"## `{title}`\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(reference(), encoding="utf-8")
