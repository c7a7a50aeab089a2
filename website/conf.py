"""How Sphinx makes the site of what website.stage has put together."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from website.stage import project_table  # noqa: E402

_PROJECT = project_table()

project = "AVF for Linux"
author = "the authors of AVF for Linux"
copyright = author
release = version = _PROJECT["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "website.docstrings", "website.names"]
exclude_patterns: list[str] = []

myst_heading_anchors = 6
myst_enable_extensions = ["attrs_block"]
suppress_warnings = ["ref.python"]  # names that several packages hand on: each entry is as good

add_module_names = False
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
maximum_signature_line_length = 88
highlight_language = "none"  # of blocks that name none
smartquotes = False
python_use_unqualified_type_names = True
toc_object_entries = False

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options: dict[str, list[str]] = {
    "footer_icons": [],
    "top_of_page_buttons": [],
}
pygments_style = "tango"
pygments_dark_style = "monokai"
