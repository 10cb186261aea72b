"""The site: ``make docs`` builds it from the pages as they stand in the repository.

Its source is the repository itself, not ``docs`` alone, so a relative link that works where the
repository is read works on the site, to a table of figures as well as to another page.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("_ext")))

project = "hansa"
author = "hansa's authors"
copyright = author
html_title = "hansa"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "weave", "listings"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/results/**",
    "examples/*/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "src", "tests", "**/_ext", "**/node_modules"]
smartquotes = False  # or --set is shown as an en dash and a word
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 4
# Python's names stand in signatures and docstrings, most of them of other libraries.
nitpick_ignore_regex = [(r"py:.*", r".*")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
