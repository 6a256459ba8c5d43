"""What goes to stderr, and when a progress bar does."""

import io
import threading

import pytest

from backscatter.cli import terminal
from backscatter.cli.terminal import Meter, Speaker, printable


class Screen(io.StringIO):
    """A stderr that is a terminal, or none."""

    def __init__(self, *, is_terminal: bool):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


def measured(monkeypatch, patience: float, *, is_terminal: bool) -> str:
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(terminal, "PATIENCE", patience)
    monkeypatch.setenv("TERM", "xterm")
    with Meter("reading captures", 1000) as meter:
        for position in (100, 500):
            meter.at(position)
        assert threading.active_count() == 1  # or nothing could be shared out to other processes
        meter.done(500)
        meter.at(500)
    return screen.getvalue()


def test_long_work_shows_a_bar_on_a_terminal(monkeypatch):
    assert "reading captures" in measured(monkeypatch, -1, is_terminal=True)


def test_short_work_shows_none(monkeypatch):
    assert measured(monkeypatch, 60, is_terminal=True) == ""


def test_a_log_file_never_gets_a_bar(monkeypatch):
    assert measured(monkeypatch, -1, is_terminal=False) == ""


def test_only_problems_count_for_the_exit_code(capsys):
    speaker = Speaker()
    speaker.note("read once")
    assert speaker.exit_code == 0
    speaker.problem("cut short")
    assert speaker.exit_code == 1
    assert capsys.readouterr() == ("", "read once\ncut short\n")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\r", "\x9b1A", "\u202e", "\u2028", "a\nb"])
def test_nothing_that_a_terminal_obeys_is_printable(hostile):
    assert hostile not in printable(hostile)
    assert printable(hostile).isprintable()


def test_words_of_any_language_stay_words():
    assert printable("Überflutet 洪水") == "Überflutet 洪水"
