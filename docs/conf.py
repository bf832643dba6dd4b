"""How Sphinx builds this folder into a site: `make docs`, warnings are errors, nothing is fetched when a page is viewed."""

from __future__ import annotations

import tunewright

project = "Tunewright"
copyright = "the Tunewright authors, Apache-2.0"
version = release = tunewright.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples/output"]
nitpicky = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"

# Console blocks are copied without what they print.
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "Tunewright"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_depth": 2,
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_static_path = ["_static"]
html_css_files = ["tunewright.css"]
