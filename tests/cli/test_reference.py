"""docs/cli.md is what the commands say of themselves."""

import subprocess
import sys

from scripts.cli_reference import PAGE

from backscatter.cli.main import COMMANDS


def test_the_page_of_commands_is_as_new_as_the_commands():
    # In a process of its own: click keeps the help option of a command as it was when first asked for, and a test that
    # called a command without the group would have left it without -h.
    program = "import sys; from scripts.cli_reference import reference; sys.stdout.buffer.write(reference().encode())"
    told = subprocess.run([sys.executable, "-c", program], cwd=PAGE.parents[1], capture_output=True, check=True).stdout
    assert PAGE.read_text(encoding="utf-8") == told.decode(), "run: python scripts/cli_reference.py"


def test_every_command_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"## `backscatter {name}`" not in page] == []
