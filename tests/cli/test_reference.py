"""docs/cli.md is what the commands say of themselves."""

from pathlib import Path

from scripts.cli_reference import PAGE, reference

from backscatter.cli.main import COMMANDS


def test_the_page_of_commands_is_as_new_as_the_commands():
    assert Path(PAGE).read_text(encoding="utf-8") == reference(), "run: python scripts/cli_reference.py"


def test_every_command_is_on_the_page():
    page = Path(PAGE).read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"## `backscatter {name}`" not in page] == []
