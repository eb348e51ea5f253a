"""Templates of the pages: the report of a round, and the page of a study."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


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


def _number(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
