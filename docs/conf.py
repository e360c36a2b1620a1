"""How Sphinx builds the documentation of coro.  Stands on the packages as they are installed (autodoc imports them)."""

import tomllib
from pathlib import Path

_core = Path(__file__).parent.parent / "packages" / "coro-core" / "pyproject.toml"

project = "coro"
author = "The coro authors"
copyright = author  # noqa: A001  # Sphinx's name for it
release = version = tomllib.loads(_core.read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"coro {release}"
exclude_patterns = ["_build"]

default_role = "py:obj"  # the docstrings write `name`, which becomes a link where there is something to link to
highlight_language = "python"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
