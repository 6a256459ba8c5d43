"""Text that attackers may have written, made safe for where it is shown.

Alert titles, ids, host names and object keys come from outside. Three media, three dangers: a terminal or a mail
obeys control characters and follows links, a chat obeys markup and mentions, HTML obeys tags (the page's template
engine escapes those by itself; control characters are taken out here for all).
"""

from __future__ import annotations

import re
import unicodedata

#: Categories of characters that show nothing or change how others show: control, format (bidirectional overrides,
#: zero widths), surrogates, private use, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_LINK = re.compile(r"(?i)\b(ht|f)(tps?)(://)")

#: Marks of Slack's and Teams' markdown, and characters that look like them and mean nothing.
_MARKUP = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "*": "\u2217",
        "_": "\uff3f",
        "~": "\u223c",
        "`": "'",
        "@": "\uff20",
        "#": "\uff03",
        "[": "\uff3b",
        "]": "\uff3d",
        "|": "\u2502",
        "\\": "\u29f5",
    }
)
_CODE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'", "@": "\uff20"})


def plain(text: str, limit: int = 1000) -> str:
    """One line of visible characters: what cannot be seen is spelled out as its number in hex; cut at `limit`."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(_spelled(letter) if unicodedata.category(letter) in _UNSEEN else letter for letter in cut)


def _spelled(letter: str) -> str:
    number = ord(letter)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def unlinked(text: str, limit: int = 1000) -> str:
    """As `plain`, and no address in it can be clicked: hxxp instead of http, as analysts write it."""
    return _LINK.sub(lambda found: f"{'hx' if found[1][0] in 'hH' else 'fx'}{found[2]}{found[3]}", plain(text, limit))


def ascii_line(text: str, limit: int) -> str:
    """Printable ASCII on one line, for a mail's subject; cut at `limit` characters."""
    line = "".join(letter if " " <= letter <= "~" else "?" for letter in plain(text))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def chat(text: str, limit: int = 1000) -> str:
    """Words for a chat message: no markup, no mention, no link."""
    return unlinked(text, limit).translate(_MARKUP)


def chat_code(text: str, limit: int = 1000) -> str:
    """Text between back quotes for a chat message: shown as it is, nothing in it is markup."""
    return f"`{unlinked(text, limit).translate(_CODE) or ' '}`"
