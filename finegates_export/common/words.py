"""Words of strangers (labels, names, licences) for pages of ours: they are shown, and never read as markup."""

from __future__ import annotations

import html
import json
import re
import unicodedata

INVISIBLE = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that are written as escapes: controls, halves of characters, none, and breaks of lines."""
TURNS = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
"""Characters that turn the direction of what follows, or hide in it."""
MARKUP = re.compile(r"[\\`*\[\]|~$!]|(?<![^\W_])_|_(?![^\W_])|^#(?=#*(?:\s|$))|^[-+](?=[\s-])")
"""What Markdown would read in a word; an underscore inside a word is one."""
NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
"""The start of a numbered list."""
LINKS = re.compile(r"(?i)(https?|ftp|www)([:.])")
"""What readers of Markdown make links of, even without brackets."""
PLAIN_LICENCE = re.compile(r"[A-Za-z0-9][\w.+ -]{0,60}")
PLAIN_YAML = re.compile(r"[a-z][a-z0-9.+-]*[a-z0-9]")
YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null"})


def one_line(text: str) -> str:
    r"""A text on one line: breaks, controls and turns of direction are written as they are in Python (`\n`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if _shown(letter) else _escape(letter) for letter in text)


def in_markdown(text: str) -> str:
    """A text as Markdown that shows it: no HTML, no emphasis, no link, no cell and no list of its own."""
    shown = MARKUP.sub(lambda found: f"\\{found.group()}", one_line(text).lstrip())
    shown = NUMBERED.sub(r"\1\\\2", shown)
    return LINKS.sub(lambda found: f"{found[1]}&#{ord(found[2])};", html.escape(shown, quote=False))


def in_code(text: str) -> str:
    """A text as a code span of Markdown, whatever backticks it has; brackets of HTML and cell marks are escapes."""
    shown = one_line(text).replace("<", "\\x3c").replace(">", "\\x3e").replace("|", "\\x7c")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def in_html(text: str) -> str:
    """A text as HTML that shows it, in an element or an attribute."""
    return html.escape(one_line(text))


def licence_name(licence: str | None) -> str | None:
    """A licence by its name; None if it is not stated, or not by anything that could be one."""
    return licence if licence is not None and PLAIN_LICENCE.fullmatch(licence) else None


def in_yaml(text: str) -> str:
    """A text as one scalar of YAML, which is always a string."""
    plain = PLAIN_YAML.fullmatch(text) and text not in YAML_WORDS
    return text if plain else json.dumps(one_line(text))


def _shown(letter: str) -> bool:
    return letter not in TURNS and unicodedata.category(letter) not in INVISIBLE


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
