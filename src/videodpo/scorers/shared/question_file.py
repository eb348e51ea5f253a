"""Read a judge's question out of a Python file of its authors, without running the file."""

from __future__ import annotations

import ast
from pathlib import Path

from videodpo.config import HUB_PREFIX
from videodpo.config.errors import InputError
from videodpo.weights.locations import PUBLIC_PREFIX


def check_question_file(location: str) -> None:
    """Raise InputError if a path is not a Python file with a text. A published file may be fetched later."""
    if location.startswith(HUB_PREFIX):
        raise InputError(f"question_file: {location!r} is a repository; give a path, or {PUBLIC_PREFIX}<file>")
    if not location.startswith(PUBLIC_PREFIX):
        longest_text(Path(location))


def longest_text(path: Path) -> str:
    """Return the longest text constant of a Python file; an f-string keeps its fields as `{expression}`.

    The authors' own words decide a judge's numbers, so they are read from the published file, whose SHA-256 is known.

    Raises:
        InputError: the file is not readable as Python, or it has no text.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise InputError(f"question_file: {path}: not readable as Python ({error})") from error
    found = max((_text(node) for node in ast.walk(tree)), key=len)
    if not found:
        raise InputError(f"question_file: {path} has no text; name the Python file that has the question")
    return found


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(
                f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else _text(part)
                for part in parts
            )
    return ""
