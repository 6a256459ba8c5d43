from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.report.escape import ascii_line, chat, chat_code, plain, unlinked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\nb", r"a\x0d\x0ab"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("\u2028", r"\u2028"),
        ("\x9b31m", r"\x9b31m"),
        ("\U000e0041", r"\U000e0041"),
        ("Grüße, 世界 🦊", "Grüße, 世界 🦊"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text, shown):
    assert plain(text) == shown


@given(st.text(st.characters()), st.integers(1, 50))
def test_plain_text_is_one_line_that_any_output_can_encode(text, limit):
    line = plain(text, limit)
    assert not any(unicodedata.category(letter)[0] == "C" or letter in "\n\r\u2028\u2029" for letter in line)
    line.encode()
    assert len(line) <= 10 * limit


@given(st.text(st.characters()), st.integers(4, 99))
def test_a_subject_is_printable_ascii_within_its_bound(text, limit):
    line = ascii_line(text, limit)
    assert len(line) <= limit
    assert all(" " <= letter <= "~" for letter in line)


@pytest.mark.parametrize("link", ["http://evil.example/x", "HTTPS://evil.example", "ftp://evil.example"])
def test_links_cannot_be_clicked(link):
    assert "http" not in unlinked(link).lower().replace("hxtp", "")
    assert not unlinked(link).lower().startswith(("http", "ftp"))
    assert "evil.example" in unlinked(link)


@given(st.text(st.characters()))
def test_chat_words_hold_no_markup_and_no_mention(text):
    words = chat(text)
    assert not set("<>*_~`@#[]|\\") & set(words)


@pytest.mark.parametrize("mention", ["<!channel>", "<!here|here>", "<@U123>", "@everyone", "<http://x|click>", "`*b*`"])
def test_mentions_and_links_are_dead_in_chat(mention):
    for shown in (chat(mention), chat_code(mention)):
        inner = shown.strip("`") if shown.startswith("`") else shown
        assert not set("<>@`") & set(inner)


@given(st.text(st.characters()))
def test_code_in_chat_is_never_left(text):
    code = chat_code(text)
    assert code[0] == code[-1] == "`"
    assert len(code) > 2
    assert not set("`<>@\n") & set(code[1:-1])
