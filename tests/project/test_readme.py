"""The README's code runs as it stands there, with the bundled data and no network."""

import ast
import asyncio
import inspect
import re
from pathlib import Path

from semback.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_readme_s_python_runs_from_top_to_bottom(capsys):
    names = {}

    async def run():
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)  # with top-level await the code object is a coroutine's
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())
    assert names["run"].task == "sums" and "correct" in capsys.readouterr().out


def test_both_commands_stand_on_the_first_screen():
    assert README.index("make test") < 900


def test_tests_and_options_that_it_names_exist():
    paths = list((ROOT / "tests").rglob("test_*.py"))
    names = {path.name for path in paths}
    for path in paths:
        names.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    for name in re.findall(r"`(?:tests/\w+/)?(test_\w+(?:\.py)?)…?`", README):
        assert any(each.startswith(name) for each in names), name
    options = {
        option for command in commands(main) for each in command.params for option in each.opts
    }
    assert set(re.findall(r"(?<!\S)`?(--[a-z][a-z-]*)", README)) <= options


def commands(command):
    return [
        command,
        *(each for sub in getattr(command, "commands", {}).values() for each in commands(sub)),
    ]


def test_every_link_to_a_file_leads_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
