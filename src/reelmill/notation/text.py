"""Characters that are written with others: HTML's entities, and the escapes of ABC 2.1 section 8.2."""

from __future__ import annotations

import html
import re
import unicodedata

_ENTITY = re.compile(r"&(?:#\d{1,6}|#[xX][0-9A-Fa-f]{1,5}|[A-Za-z]{2,8}\d{0,2});")
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_ESCAPE = re.compile(
    r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(AE|ae|OE|oe|ss|AA|aa|DH|dh|TH|th|/O|/o)"
    r"|([`'^~\"=,;.cvuHo])([A-Za-z]))"
)
_LETTERS = {
    "AE": "Æ", "ae": "æ", "OE": "Œ", "oe": "œ", "ss": "ß", "AA": "Å", "aa": "å",
    "DH": "Ð", "dh": "ð", "TH": "Þ", "th": "þ", "/O": "Ø", "/o": "ø",
}  # fmt: skip
_COMBINING = {
    "`": 0x300, "'": 0x301, "^": 0x302, "~": 0x303, '"': 0x308, "=": 0x304, ",": 0x327, "c": 0x327,
    ";": 0x328, ".": 0x307, "v": 0x30C, "u": 0x306, "H": 0x30B, "o": 0x30A,
}  # fmt: skip
_TYPEWRITTEN = {
    ord(character): plain
    for plain, characters in (('"', "“”„«»"), ("'", "‘’‚′"), ("#", "♯"), ("b", "♭"), (" ", "\u00a0"))
    for character in characters
}


def unescaped(text: str) -> str:
    """``text`` without what web pages put into it: ``&quot;`` is a quotation mark, ``<br>`` goes.

    Entities that were escaped themselves (``&amp;quot;``) are unescaped, too; ``&`` without a name and a
    semicolon, which overlays voices, stays.
    """
    while "&" in text and (plain := _ENTITY.sub(_of_entity, text)) != text:
        text = plain
    return _BREAK.sub("", text) if "<b" in text or "<B" in text else text


def accented(text: str) -> str:
    r"""``text`` with letters for ABC's escapes: ``Caf\'e``, ``\u00e9``; what is no letter stays as it is."""
    while "\\" in text and (plain := _ESCAPE.sub(_of_escape, text)) != text:
        text = plain
    return text


def typewritten(music: str) -> str:
    """A line of music with the plain characters for those a word processor made of them."""
    return music if music.isascii() else music.translate(_TYPEWRITTEN)


def _of_entity(entity: re.Match[str]) -> str:
    character = html.unescape(entity[0])
    if character == entity[0]:
        return character
    # What would end a line, or a tune, is no character of it.
    return " " if character.isspace() else character if character.isprintable() else ""


def _of_escape(escape: re.Match[str]) -> str:
    if escape[3]:
        return _LETTERS[escape[3]]
    if escape[4]:
        letter = unicodedata.normalize("NFC", escape[5] + chr(_COMBINING[escape[4]]))
    else:
        number = int(escape[1] or escape[2], 16)
        letter = chr(number) if number < 0x110000 else ""
    return letter if len(letter) == 1 and letter.isprintable() else escape[0]
