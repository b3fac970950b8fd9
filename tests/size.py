"""How big the package is: lines of code by room, without blank lines, comments and docstrings.

`make size` prints the table. Lines are counted after `ruff format` at 100 columns, so a wide line
buys nothing; tests/project/test_project.py holds the limits.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ("graph.py", "propagate.py", "language.py", "descend.py")  # the paper in four files
UNCOUNTED = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def lines_of_code(source: str) -> int:
    """Lines that hold code, a docstring being none."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in UNCOUNTED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                docstring = node.body[0]
                lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def sizes(package: Path = ROOT / "semback") -> dict[str, int]:
    """{path of a file, seen from the package: its lines of code}."""
    return {
        str(path.relative_to(package)): lines_of_code(path.read_text(encoding="utf-8"))
        for path in sorted(package.rglob("*.py"))
    }


def main() -> None:
    by_file = sizes()
    rooms = Counter()
    for path, lines in by_file.items():
        rooms[path.partition("/")[0] + "/" if "/" in path else "core"] += lines
        if "--files" in sys.argv:
            print(f"{lines:6,}  {path}")
    for room, lines in rooms.most_common():
        print(f"{lines:6,}  {room}")
    print(f"{sum(by_file.values()):6,}  all {len(by_file)} files")
    print(f"{sum(by_file[name] for name in CORE):6,}  {', '.join(CORE)}")


if __name__ == "__main__":
    main()
