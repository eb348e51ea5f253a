"""Settings of the documentation site: `make docs-site` builds docs/_build/html, which works without a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

from videodpo import __version__

project = "videodpo"
author = "the authors of videodpo"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "example-plugin"]
html_theme = "furo"
html_title = f"videodpo {__version__}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
templates_path: list[str] = []

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # headings have anchors as on GitHub, so that links work in both places

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "model_config"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields are documented once, in the class's docstring
autodoc_type_aliases = {
    "ArrayLike": "ArrayLike",
    "NoiseSchedule": "videodpo.models.shared.noise_schedules.NoiseSchedule",
}
default_role = "literal"  # `name` in a docstring is code
# Types of libraries, whose pages are on the network, and sections of the configuration, which has its own page.
nitpick_ignore_regex = [
    ("py:class", r"(np|numpy|torch|pd|pandas|pa|pq|pyarrow|pathlib|collections|contextlib|typing)\..+"),
    ("py:class", r"Path|ArrayLike|videodpo\.storage\.tables\.T"),
    ("py:class", r"dict\[str"),  # `dict[str, str] = <factory>` in a signature is cut at the comma
    ("py:class", r"(videodpo\.config\.\w+\.)?(Section|Model|Sampling|Lora|OmniScore|Pairs|Objective)"),
]


def setup(app: Sphinx) -> None:
    # Sphinx's own renderers load MathJax from the network, or need LaTeX. Browsers show MathML by themselves.
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    lines = re.split(r"\n\s*\n", node.astext().strip())
    writer.body.append("".join(f"<p>{latex2mathml.tex2mathml(line, as_block=True)}</p>" for line in lines))
    raise nodes.SkipNode
