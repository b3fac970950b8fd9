"""The README's code runs as it stands there, with the bundled data and no network."""

import ast
import asyncio
import inspect
import re
from pathlib import Path

from semback.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readme_s_python_runs_from_top_to_bottom(capsys):
    names = {}

    async def run():
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)  # with top-level await the code object is a coroutine's
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())
    assert names["run"].task == "sums" and "right" in capsys.readouterr().out


def test_both_commands_stand_on_the_first_screen():
    assert README.index("make test") < 900


def test_tests_and_options_that_it_names_exist():
    tests = {
        path.name: re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        for path in Path(__file__).parents[1].rglob("test_*.py")
    }
    for line in (line for line in README.split("\n") if line.startswith("| ")):
        there = tests[(re.findall(r"`(test_\w+\.py)`", line) or ["test_faults.py"])[0]]
        for name in re.findall(r"`(test_\w+)…?`", line):
            assert any(each.startswith(name) for each in there), name
    faults = tests["test_faults.py"]
    first = next(
        number
        for number, name in enumerate(faults)
        if name.startswith("test_a_script_has_nothing_to_close_")
    )
    assert (
        len(faults) - first - 1 == 5
        and "test_a_script_has_nothing_to_close_…` and the five after it" in README
    )
    options = {
        option
        for command in commands(main)
        for parameter in command.params
        for option in parameter.opts
    }
    assert set(re.findall(r"(?<!\S)`?(--[a-z]+)", README)) <= options


def commands(command):
    return [
        command,
        *(each for sub in getattr(command, "commands", {}).values() for each in commands(sub)),
    ]


def test_every_link_to_a_file_leads_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[2] / link).exists(), link
