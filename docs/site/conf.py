"""How Sphinx makes the site; `python -m course.site` calls it, and course/site/ has what it reads."""

from importlib.util import find_spec
from pathlib import Path

from course.build import ROOT
from course.edition import tomllib
from course.hosted import BRANCH

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT.get("urls", {}).get("Repository")
FONT = str(Path(find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf")

project = html_title = "fmlab"
author = PROJECT["authors"][0]["name"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "course.site.pages", "course.site.reference"]
root_doc = "index"
html_use_index = html_domain_indices = False  # the search finds more
default_role = "py:obj"
language = "en"

# Notebooks and Markdown.
nb_execution_mode = "off"
myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
html_math_renderer = "mathml"

# The reference.
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "none"
autodoc_inherit_docstrings = False  # of torch, from which networks are derived
autodoc_preserve_defaults = True
add_module_names = False

# How it looks. Nothing is fetched while a page is read: search needs no summaries, and fonts come along.
html_theme = "sphinx_book_theme"
html_static_path = ["static", "../pictures/digits.png", FONT]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_copyright = html_show_search_summary = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_fullscreen_button": False,
}
if REPOSITORY:
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "repository_branch": BRANCH,
        "use_repository_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    }
