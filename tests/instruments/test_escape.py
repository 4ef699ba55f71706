"""What a client sends cannot leave its place in a line of the log."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_http.instruments._escape import escape_bare, escape_quoted

WIRE_TEXT = st.binary(max_size=40).map(lambda data: data.decode("latin-1"))
NAMED = {"b": "\b", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}


def unescape(text: str) -> str:
    """Undo the rule, by the rule's own words and none of its code."""

    def one(match: re.Match[str]) -> str:
        return NAMED[match[1]] if match[1] else chr(int(match[2] or match[3] or match[4], 16))

    form = r'\\(?:([bnrtv"\\])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))'
    return re.sub(form, one, text)


@given(WIRE_TEXT | st.text(max_size=40))
@example('"\r\n127.0.0.1 - - [] "GET / HTTP/1.1" 200 1')
@example("\x1b]0;title\x07 \x7f \x80 \xff \u2028 \U0001f600 \udcff")
@example("\\x0a \\n \\")
def test_escaped_text_is_one_line_of_printable_ascii_without_a_bare_quote(text: str) -> None:
    for escaped in (escape_quoted(text), escape_bare(text)):
        assert re.fullmatch(r'(?:[ !#-\[\]-~]|\\[bnrtv"\\xuU])*', escaped)


@given(WIRE_TEXT | st.text(max_size=40))
@example("\\x0a and \n, \\n and \\\n")
def test_escaping_can_be_undone_so_that_different_texts_never_look_the_same(text: str) -> None:
    assert unescape(escape_quoted(text)) == text
    assert unescape(escape_bare(text)) == text


@given(WIRE_TEXT | st.text(max_size=40))
@example("a b")
def test_text_without_quotes_has_no_space(text: str) -> None:
    assert " " not in escape_bare(text)


@given(WIRE_TEXT)
def test_text_with_quotes_ends_where_its_quotes_end(text: str) -> None:
    line = f'"{escape_quoted(text)}" "next"'
    match = re.match(r'"((?:[^"\\]|\\.)*)"', line)
    assert match is not None
    assert match[1] == escape_quoted(text)


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\')))
def test_what_is_harmless_stands_as_it_is(text: str) -> None:
    assert escape_quoted(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ('say "hi"', r"say \"hi\""),
        ("a\\b", r"a\\b"),
        ("\b\n\r\t\v", r"\b\n\r\t\v"),
        ("\0\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
        ("caf\xe9\xff", r"caf\xe9\xff"),
        ("\u20ac\U0001f600\udcff", r"\u20ac\U0001f600\udcff"),
        ("", ""),
    ],
)
def test_the_rule_by_example(text: str, escaped: str) -> None:
    assert escape_quoted(text) == escaped
    assert escape_bare(text) == escaped.replace(" ", r"\x20")
