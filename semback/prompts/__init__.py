"""The prompts: one jinja2 template beside this file for each kind of call.

A template has a block `user` and may have a block `system`; each becomes a message. Data stands
between fences, so that a model does not take it for an instruction and every part can be found
again (`fenced`).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError, known

if TYPE_CHECKING:
    from jinja2 import Environment

NO_USER = "it has no block called user, or an empty one"
TEMPLATES = ("forward", "backward", "critique", "update", "again")  # others start with _: partials
_FENCED = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)


def load(folder: str) -> None:
    """Read the templates of a folder, so that a broken one is found before any call.

    Parameters
    ----------
    folder : str
        Its templates replace those of the same name here.

    Raises
    ------
    ParameterError
        For a file that is not a template or has no block `user`; for a folder without templates, or
        with one whose name no call uses.
    """
    from jinja2 import TemplateError

    found = sorted(path.stem for path in Path(folder).glob("*.j2"))
    if not found:
        raise ParameterError(f"the folder of prompts {folder} holds no template such as update.j2")
    for name in found:
        try:
            template = _environment(folder).get_template(f"{name}.j2")
        except (TemplateError, UnicodeDecodeError) as error:
            raise _broken(name, error) from None
        if not name.startswith("_"):
            known("template", name, TEMPLATES)
            if "user" not in template.blocks:
                raise _broken(name, NO_USER)


def rendered(name: str, data: Mapping[str, Any], folder: str | None = None) -> list[dict[str, str]]:
    """The system and user messages that a template makes from data.

    Parameters
    ----------
    name : str
        One of `TEMPLATES`.
    data : mapping
        The variables of the template.
    folder : str, optional
        Its templates replace those of the same name here.

    Raises
    ------
    ParameterError
        If the template does not work; it names the line.
    """
    from jinja2 import TemplateError

    environment = _environment(folder)
    messages = []
    try:
        template = environment.get_template(f"{name}.j2")
        context = template.new_context({**environment.globals, **data}, shared=True)
        for role in ("system", "user"):
            if role in template.blocks:
                text = environment.concat(template.blocks[role](context)).strip()
                if text:
                    messages.append({"role": role, "content": text})
    except TemplateError as error:
        raise _broken(name, error, f"; it is given {', '.join(sorted(data))}") from None
    if not messages or messages[-1]["role"] != "user":
        raise _broken(name, NO_USER)
    return messages


def digest(folder: str | Path | None = None) -> str:
    """The version of the templates: the first 8 hex digits of the SHA-256 of those in use."""
    folders = [Path(__file__).parent, *([Path(folder)] if folder else [])]
    paths = {path.name: path for each in folders for path in sorted(each.glob("*.j2"))}
    texts = {name: path.read_text(encoding="utf-8") for name, path in sorted(paths.items())}
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:8]


def fence(text: str, label: str) -> str:
    """A text between fences that nothing in it can close, with a label on the first one.

    The fence is one backtick longer than the longest run inside, CommonMark's rule for code.
    ParameterError for anything but text.
    """
    if not isinstance(text, str):  # an undefined variable of a template names itself here
        raise ParameterError(f"the {label} is {text}; a model is shown text")
    marks = "```"
    if marks in text:
        marks = "`" * (1 + max(map(len, re.findall("```+", text))))
    return f"{marks}{label}\n{text}\n{marks}"


def fenced(prompt: str) -> list[tuple[str, str]]:
    """The (label, text) of each fenced block of a prompt, as `fence` writes them."""
    return [(label, text) for _, label, text in _FENCED.findall(prompt)]


def outside(prompt: str) -> str:
    """A prompt without its fenced blocks: our own words."""
    return _FENCED.sub("", prompt)


@lru_cache
def _environment(folder: str | None) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    # A stranger's template must run no program.
    kind = SandboxedEnvironment if folder else Environment
    folders = [folder] if folder else []
    environment = kind(
        loader=FileSystemLoader([*folders, str(Path(__file__).parent)]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=folder is not None,
    )
    environment.filters["fence"] = fence
    return environment


def _broken(name: str, error: Exception | str, given: str = "") -> ParameterError:
    line = getattr(error, "lineno", None)
    where = f"{name}.j2, line {line}" if line else f"{name}.j2"
    reason = getattr(error, "message", error)
    return ParameterError(f"the prompt template {where} does not work: {reason}{given}")
