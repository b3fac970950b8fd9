"""The README and the pages of the documentation keep what they say: their code runs as it stands
there, with the bundled data and no network; what they name exists; their links lead somewhere.
"""

import ast
import asyncio
import inspect
import json
import re
from pathlib import Path

import pytest

import semback as sb
from semback.cli import main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OTHERS = {"--nbval", "--tag"}  # options of other programs: pytest, docker

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text(page):
    """The Markdown of a page, or of a notebook."""
    if page.suffix != ".ipynb":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def prose(page):
    """The Markdown without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.DOTALL | re.MULTILINE)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda p: p.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page):
    names = {}

    async def run():
        for block in blocks(page):
            code = compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)  # with top-level await the code object is a coroutine's
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())


def test_both_commands_stand_on_the_first_screen_of_the_readme():
    assert max(map(README.read_text().index, ("make reproduce", "make test"))) < 900
    assert blocks(README), "there is no Python that one can copy"


@every_page
def test_tests_and_options_that_a_page_names_exist(page):
    paths = list((ROOT / "tests").rglob("test_*.py"))
    names = {path.name for path in paths}
    for path in paths:
        names.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    for name in re.findall(r"`(?:tests/\w+/)?(test_\w+(?:\.py)?)…?`", text(page)):
        assert any(each.startswith(name) for each in names), name
    options = {
        option for command in commands(main) for each in command.params for option in each.opts
    }
    assert set(re.findall(r"(?<!\S)`?(--[a-z][a-z-]*)", text(page))) <= options | OTHERS


def commands(command):
    return [
        command,
        *(each for sub in getattr(command, "commands", {}).values() for each in commands(sub)),
    ]


def anchors(page):
    """What a link to a heading of a page may end in: as GitHub and MyST make it."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES + NOTEBOOKS, ids=lambda page: page.name)
def test_every_link_to_a_file_or_a_heading_leads_somewhere(page):
    included = re.findall(r"^```\{include\} (\S+)$", text(page), re.MULTILINE)
    for link in [*re.findall(r"\]\(([^):]+)\)", prose(page)), *included]:
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link
        assert ROOT in there.resolve().parents, link


def test_every_page_and_every_notebook_is_in_a_table_of_contents():
    found = {ROOT / "docs/index.md"}
    for page in DOCS:
        trees = re.findall(r"^```\{toctree\}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)
        for entry in re.findall(r"^[^:\s].*$", "".join(trees), re.MULTILINE):
            place = (page.parent / entry).resolve()
            found.update(place.parent.glob(place.name if "*" in entry else f"{place.name}.md"))
    assert found >= {*DOCS, *NOTEBOOKS}


def test_the_api_has_every_public_name():
    shown = set(re.findall(r":: semback\.(\w+)", (ROOT / "docs/api.md").read_text()))
    assert shown | set(dir(sb.errors)) >= set(sb.__all__)
