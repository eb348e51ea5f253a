"""Code blocks of the pages: commands, files and snippets that a reader may copy."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/*.md"))]
# What a command may need that no test has. The comment behind the command says so: `# needs a network; ...`.
NEEDS = ("a GPU", "a cluster", "a network")
BLOCK = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """Name of the file that the block shows: its first line is a comment that begins with it."""
        found = re.match(r"# ([\w./-]+\.(?:yaml|py))\b", self.text)
        return found and found[1]

    @property
    def needs(self) -> list[str]:
        """What marked commands need."""
        return re.findall(r"# needs ([^;\n]*)", self.text)

    @property
    def commands(self) -> str:
        """The lines without marked ones."""
        return "".join(line for line in self.text.splitlines(keepends=True) if "# needs " not in line)


def read_blocks(page: str) -> list[Block]:
    """Fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(language, textwrap.dedent(body)) for _, language, body in BLOCK.findall(text)]


def save_files(page: str, folder: Path) -> None:
    """Save the files that a page shows under their names, as a reader would."""
    for block in read_blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
