"""Filters the rule graph of Snakemake for docs/stages.md; `make rule-graph` calls it.

`snapshot` and `prompts` have an arrow to nearly every rule. Of these, only those from `prompts` to the sampling are
kept. `dot` is part of Graphviz.
"""

from __future__ import annotations

import re
import sys

SAMPLING = ("generate", "evaluate_generate")


def main() -> None:
    lines = sys.stdin.read().splitlines()
    names = {found[1]: found[2] for line in lines if (found := re.match(r'\s*(\d+)\[label = "(\w+)"', line))}
    for line in lines:
        arrow = re.match(r"\s*(\d+) -> (\d+)", line)
        if arrow and not _is_kept(names[arrow[1]], names[arrow[2]]):
            continue
        if 'label = "snapshot"' not in line:
            print(line)


def _is_kept(source: str, target: str) -> bool:
    return source not in ("snapshot", "prompts") or (source == "prompts" and target in SAMPLING)


if __name__ == "__main__":
    main()
