"""Read texts out of a Python file, without running it.

The exact text that a model reads decides its numbers. It belongs to the model's authors, so it is fetched like weights.
"""

from __future__ import annotations

import ast
from pathlib import Path

from videodpo.config.errors import InputError


def longest_text(path: Path) -> str:
    """Return the longest text constant of a file; an f-string keeps its fields as `{expression}`.

    Raises:
        InputError: the file is not readable as Python, or it has no text.
    """
    found = max((_text(node) for node in ast.walk(_parsed(path))), key=len)
    if not found:
        raise InputError(f"{path} has no text; name the Python file that has the question")
    return found


def text_constants(path: Path) -> dict[str, str]:
    """Return the text constants at the top level of a file, by name.

    Raises:
        InputError: the file is not readable as Python.
    """
    return {
        target.id: node.value.value
        for node in _parsed(path).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: not readable as a Python file ({error})") from error


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
