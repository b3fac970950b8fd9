"""The project keeps its rules: versions in step, imports one way, no trace of a machine."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import size

from semback.variants import METHODS

ROOT = Path(__file__).parents[2]
LAYERS = (  # imports go down only: a room may import what stands in a line below it
    ("cli",),
    ("batch",),
    ("baselines",),
    ("proxy", "studies"),
    ("report",),
    ("llm", "tasks"),
    ("cache",),
    ("core",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def room_of(parts):
    return parts[0] if parts and parts[0] in RANK else "core"


def imported(path):
    """(module, line) of everything that a file imports, wherever in it; ours begin with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, node.lineno
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT / "semback").parts[: -node.level]
            inner = (*package, *(node.module or "").split("."))
            names = [alias.name for alias in node.names] if not node.module else [""]
            yield from ((".".join(("", *filter(None, (*inner, n)))), node.lineno) for n in names)


def dependencies():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_conda_binder_and_docker_have_the_same_python_and_the_lock():
    for name in ("environment.yml", ".binder/environment.yml"):
        assert "  - python=3.13\n" in (ROOT / name).read_text()  # the quickest that was measured
    assert "\nFROM python:3.13-slim\n" in (ROOT / "Dockerfile").read_text()
    assert "    - -r requirements.lock\n" in (ROOT / "environment.yml").read_text()
    for name in (".binder/postBuild", "Dockerfile"):
        hashed = "--require-hashes --no-deps --requirement requirements.lock\n"
        assert hashed in (ROOT / name).read_text()


def test_the_version_is_the_same_in_pyproject_the_package_and_the_citation():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'\n__version__ = "{version}"\n' in (ROOT / "semback" / "__init__.py").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_archives_and_citations_name_it_alike():
    archived = json.loads((ROOT / ".zenodo.json").read_text())
    cited = (ROOT / "CITATION.cff").read_text()
    for text in (archived["title"], archived["creators"][0]["name"], archived["license"]):
        assert text in cited


def test_lock_pins_every_dependency_with_hashes_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--hash=sha256:" in lock
    for dependency in dependencies():
        name = re.match(r"[\w-]+", dependency)[0]
        assert re.search(rf"^{name}==", lock, re.MULTILINE), (
            f"{name} is not in requirements.lock: run `make lock`"
        )


def test_imports_go_one_way():
    wrong = []
    for path in sorted((ROOT / "semback").rglob("*.py")):
        inside = path.relative_to(ROOT / "semback")
        if inside.parts == ("__init__.py",):
            continue
        here = room_of(inside.parts[:-1])
        for module, line in imported(path):
            there = room_of(module.split(".")[1:]) if module.startswith(".") else here
            if there != here and RANK[there] <= RANK[here]:
                wrong.append(f"{inside}, line {line}: {here} imports {module}")
    assert not wrong


def test_the_core_imports_the_standard_library_and_jinja2_only():
    # Imported when used: pandas by Run.to_frame, pydantic by Run.load, scipy for graded scores, the
    # others by long work.
    allowed = {*sys.stdlib_module_names, "jinja2", "pandas", "pydantic", "numpy", "scipy", "tqdm"}
    allowed |= {"IPython"}
    for path in [*(ROOT / "semback").glob("*.py"), ROOT / "semback" / "prompts" / "__init__.py"]:
        for module, line in imported(path):
            ours = module.startswith(".") and path.name != "__init__.py"
            if not module.startswith("."):
                assert module.partition(".")[0] in allowed, f"{path.name}, line {line}: {module}"
            elif ours:
                assert room_of(module.split(".")[1:]) == "core", (
                    f"{path.name}, line {line}: {module}"
                )


def test_the_package_stays_small():
    by_file = size.sizes()
    assert sum(by_file[name] for name in size.CORE) <= 650
    assert sum(by_file.values()) <= 7_800  # to become 6,500 (issue 23)


def test_importing_semback_brings_no_heavy_library():
    heavy = {"openai", "matplotlib", "pandas", "papermill", "pydantic", "scipy", "pooch", "jinja2"}
    code = f"import sys, semback; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()
        == "set()"
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_notebook_has_parameters_saved_outputs_and_a_way_on(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])], (
        "no cell is tagged parameters"
    )
    assert all(cell["execution_count"] for cell in code), "a cell was never run"
    assert not [
        out
        for cell in code
        for out in cell["outputs"]
        if out["output_type"] == "error" or out.get("name") == "stderr"
    ]
    links = re.findall(
        r"\]\((\w+\.ipynb)\)",
        "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"),
    )
    assert links and all((path.parent / link).exists() for link in links)


CIRCUMSTANCES = {  # differ on the next machine, and nbval would compare them
    "a time": r"\b\d+(\.\d+)? ?(s|ms|µs|us|sec|seconds?)\b|[Ww]all time|CPU times|\dit/s|s/it\b|"
    r"\b20\d\d-\d\d-\d\d[T ]\d\d:",
    "a version": r"(?<![\w.])\d+\.\d+\.\d+(?![\w.])",
    "a path": r"(?<![\w.:/<])/(home|root|tmp|work|usr|Users|var|opt|mnt)/|\b[A-Z]:\\",
    "an address in memory": r"\b0x[0-9a-f]{6,}",
    "how far work was": r"\d live and \d",
}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_saved_outputs_hold_nothing_of_the_machine_that_made_them(path):
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr"
            for kind, text in {"text": output.get("text", ""), **output.get("data", {})}.items():
                for method in METHODS.values():  # they have versions in their names
                    text = "".join(text).replace(method, "")
                text = (
                    re.sub(r"base64,[\w+/=]*", "", "".join(text))
                    if not kind.startswith("image/")
                    else ""
                )
                for what, pattern in CIRCUMSTANCES.items():
                    found = re.search(pattern, text)
                    assert not found, (
                        f"{what} in an output of {''.join(cell['source'])[:60]!r}: {found[0]!r}"
                    )


@pytest.mark.parametrize(
    "text",
    [
        "ran in 1.53 s",
        "took 12ms",
        "Wall time: 3",
        "3.2it/s",
        "at 2026-11-23T02:56:32",
        "numpy 2.4.6",
        "in /root/x",
        "(/home/me/semback)",
        r"C:\Users",
        "<object at 0x7f205ae7d7d0>",
        "120 live and 0 recorded calls",
    ],
)
def test_what_differs_between_machines_is_recognised(text):
    assert any(re.search(pattern, text) for pattern in CIRCUMSTANCES.values())


def test_no_committed_file_holds_a_path_of_a_machine_or_a_key():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix not in (".png", ".zst"):
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) not in text and not re.search(r"\bsk-[A-Za-z0-9_-]{20,}", text), name
