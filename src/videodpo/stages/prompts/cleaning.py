"""Clean prompts that were typed into chat tools: keep the plain description, in its own language."""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5

# An entity, escaped any number of times: &amp;amp;quot; is a quote. The semicolon is required, because
# "cats&parachutes" holds no entity.
_ENTITY = re.compile(
    r"&(?:(?:amp|#38|#[xX]26);)*(?:#(?P<number>\d{1,7}|[xX][0-9a-fA-F]{1,6})|(?P<name>[A-Za-z][A-Za-z0-9]{1,31}));"
)

# Characters without meaning: placeholders for an attachment and for an undecodable byte, and the byte order mark.
_STAND_INS = {0xFFFC: " ", 0xFFFD: " ", 0xFEFF: " "}

_DASH = r"(?<![\w\-\u2013\u2014])[-\u2013\u2014]{1,2}"  # phones turn -- into a longer dash
_NUMBER = r"\d+(?:\.\d+)?"
_END = r"(?![\w:])"
_TAILS = re.compile(
    r"(?=[-\u2013\u2014(MI])(?:"  # first characters: three times faster than trying each one everywhere
    + "|".join(
        (
            rf"{_DASH} ?(?:ar|aspect(?:[ _]ratio)?) ?[:=]? ?{_NUMBER} ?[:x/] ?{_NUMBER}{_END}",
            rf"{_DASH} ?(?:fps|motion|gs|ugs|seed|steps|cfg|guidance(?:[ _]scale)?|chaos|stylize|quality|weird|iw|niji)"
            rf" ?[:=]? ?{_NUMBER}(?: ?fps)?{_END}",
            rf"{_DASH}{_NUMBER} ?(?:fps|motion)\b",
            # Short names and common words count only after two dashes, which prose does not have.
            rf"(?<![\w\-])--(?:[vqscw]|version|stop|repeat) ?{_NUMBER}{_END}",
            r"(?<![\w\-])--(?:hd|tile|fast|turbo|relax|raw|style raw)\b",
            # A negative prompt would ask for what it forbids, so cut it, up to the next option.
            rf"(?:{_DASH}neg|(?<![\w\-])--(?:negative(?:[ _-]prompt)?|no))\b[:=]? .*?"
            r"(?= [-\u2013\u2014]{1,2}[A-Za-z]| (?:Message|Image): |$)",
            r"\b(?:Message|Image): \d+ Attachments?\b",
            r"\bMessage: .{0,60}?\(Font: [\w ]+\)",
            r"\(Avg\. Wait[^()]*(?:\)|$)",
        )
    )
    + ")",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"^/(?:imagine|create|animate)\b ?(?:prompt ?:?)? ?", re.IGNORECASE)
_CAMERA = re.compile(rf"{_DASH}(?=camera\b)", re.IGNORECASE)  # keep the words of `-camera zoom in`: they describe it


def clean(text: str) -> str:
    """Remove HTML entities, control characters, tool options and extra blanks from a prompt; return Unicode NFC.

    Words are never changed, translated or corrected. The result may be empty.
    """
    text = unescape(scrub(text))
    text = " ".join(unicodedata.normalize("NFC", scrub(text).translate(_STAND_INS)).split())
    text = _COMMAND.sub("", text)
    text = _CAMERA.sub("", _without_tails(text))
    return text.strip()


def scrub(text: str) -> str:
    """Replace control characters (NUL, line ends) by blanks and drop lone surrogates: the result is valid UTF-8."""
    if text.isprintable():
        return text
    return "".join(_printable(char) for char in text)


def unescape(text: str) -> str:
    """Resolve HTML entities, including those that were escaped several times."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _printable(char: str) -> str:
    category = unicodedata.category(char)
    return " " if category == "Cc" else "" if category == "Cs" else char


def _character(match: re.Match[str]) -> str:
    if match["number"]:
        return html.unescape(f"&#{match['number']};")
    # Not html.unescape: it accepts a known beginning, and turns &parade; into a sign and "de".
    return html5.get(f"{match['name']};", match[0])


def _without_tails(text: str) -> str:
    """Cut out options with the commas and blanks around them; keep a comma between two kept parts."""
    pieces = _TAILS.split(text)
    if len(pieces) == 1:
        return text
    kept: list[str] = []
    for piece in pieces:
        bare = piece.strip(" ,;")
        if bare and kept:
            first = piece.lstrip()[0]
            kept.append(f"{first} " if first in ",;" else "" if first == "." else " ")
        kept.append(bare)
    return "".join(kept)
