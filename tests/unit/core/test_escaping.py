"""Text from files and names, where it is shown: terminal, log, Markdown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from figureground.core.errors import CheckpointError, ConfigError, StepError, UserError
from figureground.core.escaping import LineFormatter, code, markdown, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2K\rall is well\n", r"\x1b]0;title\x07\x1b[2K\rall is well\n"),
        ("a\tb\x00c\x7fd\x9b31m", r"a\tb\x00c\x7fd\x9b31m"),
        ("gpj.\u202etxt\u2066x\u2069", r"gpj.\u202etxt\u2066x\u2069"),
        ("a\u200bb\u200dc\ufeffd\u00ade\u2060", r"a\u200bb\u200dc\ufeffd\xade\u2060"),
        ("one\u2028two\u2029three\x85", r"one\u2028two\u2029three\x85"),
        ("tag\U000e0041\u3164\u115f\ufe0f", r"tag\U000e0041\u3164\u115f\ufe0f"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
        ("über 漢字 नमस्ते שלום 🦢 a\u3000b\u00a0c ½", "über 漢字 नमस्ते שלום 🦢 a\u3000b\u00a0c ½"),
        ("plain/path-1.png", "plain/path-1.png"),
        ("", ""),
    ],
)
def test_what_acts_or_hides_is_shown(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert one_line(shown) == shown  # Escaped twice, it is the same.
    assert "\n" not in one_line(text)


def test_lines_of_ours_stay() -> None:
    assert printable("one\n\ttwo\x1b[0m\r") == "one\n\ttwo\\x1b[0m\\r"


def test_errors_escape_what_they_are_given_wherever_it_stands() -> None:
    error = CheckpointError("a\nb \x1b[31m is no key")
    assert str(error) == r"a\nb \x1b[31m is no key"
    assert error.args == (r"a\nb \x1b[31m is no key",)
    assert str(StepError("a\u202e", 3, "failed\n")) == r"step 'a\u202e' failed\n"
    assert str(UserError(Path("ü\x07"))) == r"ü\x07"  # type: ignore[arg-type]
    assert not str(UserError())


def test_only_the_code_makes_lines_of_a_message() -> None:
    error = ConfigError("first\nfake", "second")
    assert str(error) == "first\\nfake\n       second"
    # Within another message both are parts of its one line.
    assert str(UserError(f"x: {error}")) == r"x: first\nfake; second"
    assert f"{error:>22}" == r"   first\nfake; second"


def record(message: str, *arguments: object) -> str:
    formatter = LineFormatter("%(levelname)s %(message)s")
    made = logging.LogRecord("a", logging.WARNING, "f", 1, message, arguments, None)
    text = formatter.format(made)
    assert made.args == arguments  # Others read the record too.
    return text


def test_log_escapes_what_messages_are_filled_with() -> None:
    shown = record("look at:\n  %s (%d, %.1f)", Path("a\nERROR b\x1b"), 3, 0.5)
    assert shown == "WARNING look at:\n  a\\nERROR b\\x1b (3, 0.5)"
    assert record("%s", ValueError("x\ny\u202e")) == r"WARNING x\ny\u202e"
    assert record("%s", ConfigError("a", "b\n")) == "WARNING a\n       b\\n"
    assert record("built by others: \x1b[31m") == r"WARNING built by others: \x1b[31m"
    named = logging.LogRecord("a", 30, "f", 1, "%(x)s", ({"x": "p\nq"},), None)
    assert LineFormatter().format(named) == r"p\nq"


def test_log_escapes_tracebacks_and_keeps_their_lines() -> None:
    try:
        raise ValueError("bad \x1b[31m")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    made = logging.LogRecord("a", 40, "f", 1, "it failed", None, info)
    text = LineFormatter().format(made)
    assert text.splitlines()[0] == "it failed"
    assert text.splitlines()[-1] == r"ValueError: bad \x1b[31m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x>&amp;", "&lt;img src=x&gt;&amp;amp;"),
        ("a|b", "a&#124;b"),
        ("x\n# heading", r"x\n# heading"),
        ("![leak](http://host/?q)", "![leak]&#40;http&#58;//host/?q)"),
        ("www.host.org a@b.c", "www&#46;host.org a&#64;b.c"),
        ("**bold** _soft_ `code` ~~gone~~ $x$", "&#42;&#42;bold&#42;&#42; &#95;soft&#95; "
         "&#96;code&#96; &#126;&#126;gone&#126;&#126; &#36;x&#36;"),
        (r"\| \<", r"&#92;&#124; &#92;&lt;"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a_b/img data=[1,2] 0.5 +- 0.1 漢字", "a_b/img data=[1,2] 0.5 +- 0.1 漢字"),
    ],
)  # fmt: skip
def test_markdown_shows_text_and_does_nothing(text: str, shown: str) -> None:
    assert markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("iou/img/fixed", "`iou/img/fixed`"),
        ("漢字 ü", "`漢字 ü`"),
        ("a`b", "<code>a&#96;b</code>"),
        ("a|</code><b>", "<code>a&#124;&lt;/code&gt;&lt;b&gt;</code>"),
        ("a\nb", r"<code>a\nb</code>"),
        (" a ", "<code> a </code>"),
        (None, "`None`"),
    ],
)
def test_names_of_scores_are_code(text: str, shown: str) -> None:
    assert code(text) == shown
