"""Templates of the pages: the report of a round, and the page of a study."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from videodpo.storage.files import write_text


def page_environment(package: str) -> Environment:
    """Environment for the templates of a package, with the filters plain, score, signed and percent."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,  # prompts are untrusted text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = lambda name: str(name).replace("_", " ")
    environment.filters["score"] = lambda value, digits=4: _number(f"{value:z.{digits}f}")
    environment.filters["signed"] = lambda value, digits=4: _number(f"{value:+.{digits}f}")
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    return environment


def web_text(name: str) -> str:
    """Content of a style sheet or a script of the galleries."""
    return (files(__package__) / "web" / name).read_text(encoding="utf-8")


def write_web_files(folder: Path) -> None:
    """Write the style sheet and the scripts of the galleries into `<folder>/web`."""
    for file in sorted((files(__package__) / "web").iterdir(), key=lambda file: file.name):
        write_text(folder / "web" / file.name, web_text(file.name))


def _number(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
