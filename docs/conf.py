"""The documentation site: `make docs` writes build/docs. Nothing is fetched, nothing executed."""

import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project, author, release = "semback", "The semback authors", metadata["version"]
html_title = f"semback {release}"
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_static_path, html_css_files = ["style"], ["semback.css"]
html_copy_source = html_show_copyright = False
exclude_patterns = ["requirements.*"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_heading_anchors = 3
myst_enable_extensions = []  # no mathematics: MathJax would be fetched
nb_execution_mode = "off"  # pages show the outputs that are saved in the repository

# What semback imports need not be installed: signatures and docstrings do without.
autodoc_mock_imports = """aiohttp click diskcache filelock genai_prices matplotlib nbclient numpy
openai pandas papermill pooch pydantic rapidfuzz scipy statsmodels tqdm zstandard""".split()
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them
default_role = "py:obj"  # of `names` in docstrings
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 80


def relink(app, page: str, source: list[str]) -> None:
    """Notebooks are pages here; other files are where they are in the repository."""
    if page.startswith("notebooks/"):
        source[0] = source[0].replace("](../", "](../../")
    else:
        source[0] = source[0].replace("../notebooks/", "notebooks/")


def show_table(app, what: str, name: str, thing, options, lines: list[str]) -> None:
    """The replies in the table of `answers` are shown to the letter: they hold no markup."""
    if name == "semback.tasks.answers":
        first, *_, last = [i for i, line in enumerate(lines) if line.startswith("====")]
        table = ["   " + line for line in lines[first : last + 1]]
        lines[first : last + 1] = ["::", "", *table]


def keep_colons(app, what: str, name: str, thing, options, lines: list[str]) -> None:
    """What stands before a colon in the first line of a property is no type, as napoleon thinks."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment


def setup(app) -> None:
    shutil.rmtree(ROOT / "docs/notebooks", ignore_errors=True)
    hidden = shutil.ignore_patterns(".*")
    shutil.copytree(ROOT / "notebooks", ROOT / "docs/notebooks", ignore=hidden)
    app.connect("source-read", relink)
    app.connect("autodoc-process-docstring", show_table)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
