"""What may be shown of a storage, and of texts that may repeat it: never what looks like a password.

Malformed URLs count too: a password that a typing error put in the wrong place is one all the same. In doubt more is left
out than need be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

_HIDDEN = "***"

# The value of a parameter whose name says so, of a URL ("?password=..."), a connection string ("host=h password=...") or in
# JSON; as far as another parameter. Names are bounded so that no text takes long. What counts tokens or passes is none.
_SECRET_PARAMETER = re.compile(
    r"(?<![\w%+.-])[\w%+.-]{0,64}?(?:pass(?!es)|pwd|secret|token(?!s)|credential|api_?key)[\w%+.-]{0,64}"
    r"(?:\s{0,8}=\s{0,8}|[\"']\s{0,8}:\s{0,8})[\"']?"
    r"(?P<value>(?:(?!&|\s[\w%]{1,64}=|[\"']).)+)",
    re.IGNORECASE | re.DOTALL,
)
# Nobody escapes the letters of a parameter's name but to hide it.
_ESCAPED_PARAMETER = re.compile(r"[?&](?P<all>[^=&]{0,32}?%[^=&]{0,32}=[^&]+)")

# At the beginning, or behind the name of an option: NAME=postgresql://...
_SCHEME = re.compile(r"(?:[\w.-]*=)?[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOST_SLASHES = re.compile(
    r"((?:sqlite|postgres(?:ql)?|mysql|mariadb|oracle|mssql)(?:\+\w+)?:?/*:|//(?=.*:))(?!//)", re.IGNORECASE
)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::(?P<port>\d{0,5}))?", re.ASCII)
_HIGHEST_PORT = 65_535

_Span = tuple[int, int, str]
"""From where to where something is left out, and what is shown instead."""

# Of a sentence: what may be quoted stands without its quotes.
_WORD = re.compile(r"[^\s'\"`]+")
# Shorter pieces of a password are in every other word.
_FEWEST_CHARACTERS = 3


def without_password(storage: str) -> str:
    """Return a storage as it may be shown: without the password, wherever in it that stands."""
    shown, position = "", 0
    for begin, end, instead in sorted([*_parameter_spans(storage), *_address_spans(storage)]):
        if end > position:
            shown += storage[position:begin] + instead
            position = end
    return shown + storage[position:]


def holds_password(text: str) -> bool:
    """Return whether ``text`` looks like a storage with a password in it."""
    return without_password(text) != text


class Secrets:
    """What of some texts must not be repeated: passwords, whole and in the pieces that drivers make of them."""

    def __init__(self, *texts: str) -> None:
        pieces = {piece for text in texts for piece in _secrets_in(text) if len(piece) >= _FEWEST_CHARACTERS}
        self._pieces = sorted(pieces, key=len, reverse=True)

    def are_in(self, text: str) -> bool:
        """Return whether ``text`` repeats one of them."""
        return any(piece in text for piece in self._pieces)

    def hidden_in(self, sentence: str) -> str:
        """Return ``sentence`` without them, and without whatever else looks like a password in a URL."""
        for piece in self._pieces:
            sentence = sentence.replace(piece, _HIDDEN)
        return _WORD.sub(_shown_word, sentence)


def _shown_word(match: re.Match[str]) -> str:
    word = match[0].rstrip(".,:;")
    return without_password(word) + match[0][len(word) :] if "@" in word else match[0]


def _parameter_spans(text: str) -> Iterator[_Span]:
    for match in _SECRET_PARAMETER.finditer(text):
        yield (*match.span("value"), _HIDDEN)
    for match in _ESCAPED_PARAMETER.finditer(text):
        yield (*match.span("all"), _HIDDEN)


def _address_spans(text: str) -> Iterator[_Span]:
    scheme, lost, drive = _SCHEME.match(text), _LOST_SLASHES.match(text), _DRIVE.match(text)
    begin = 0 if scheme is None else scheme.end()
    before, at, place = text[begin:].rpartition("@")
    end = begin + len(before)
    if scheme is not None:
        if at and ":" in before:
            yield begin + before.index(":"), end, ""
        if not _is_address(re.split(r"[/?#]", place, maxsplit=1)[0]):
            yield end + len(at) + place.index(":") + 1, len(text), _HIDDEN
    elif at and ":" in before[0 if drive is None else drive.end() :]:
        # No telling what of it is the password.
        yield 0 if lost is None else lost.end(), end, _HIDDEN
    elif lost is not None:
        yield lost.end(), len(text), _HIDDEN


def _is_address(text: str) -> bool:
    """Return whether ``text`` is a host, with a port or without; a port that is none may be a password."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and int(match["port"] or 0) <= _HIGHEST_PORT


def _secrets_in(text: str) -> Iterator[str]:
    """Yield the pieces of ``text`` that ``without_password`` leaves out, as they are and as they are written elsewhere."""
    shown = without_password(text)
    if shown != text:
        whole = text.rpartition("@")[0].partition("://")[2].partition(":")[2]
        for piece in (whole, *re.split(r"[@/:?#&=;,\s\[\]\"']+", text)):
            if piece not in shown:
                yield from (piece, unquote_plus(piece), repr(piece)[1:-1])
