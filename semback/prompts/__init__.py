"""The prompts: one jinja2 template beside this file for each kind of call, and how one becomes messages.

What a template shows of the data stands between fences, so that no data is taken for an instruction, and every part can be told again.
"""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

from ..errors import ParameterError

TEMPLATES = (
    "forward",
    "backward",
    "critique",
    "update",
    "again",
)  # those in use; others begin with _, and are imported by these
_FENCED = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)


def load(folder: str | None = None) -> None:
    """Read the templates of a folder, and ours that it leaves, so that one that cannot work is met before anything is asked. Of ours alone,
    which work, only what everybody asks first: from recordings nothing else may be asked.

    ParameterError: one is no template, or has no block called user; the folder holds none, or one that nobody would ever use.
    """
    if folder is None:
        _templates(None).get_template("forward.j2")
        return
    from jinja2 import TemplateError

    own = {path.stem for path in Path(folder).glob("*.j2")}
    unused = sorted(name for name in own if name not in TEMPLATES and not name.startswith("_"))
    if unused or not own:
        what = f"{unused[0]}.j2, which nothing uses" if unused else "no template"
        raise ParameterError(
            f"the folder of prompts {folder} holds {what}; there can be {'.j2, '.join(TEMPLATES)}.j2"
        )
    for name in dict.fromkeys((*TEMPLATES, *sorted(own))):
        try:
            found = _templates(folder).get_template(name + ".j2")
        except (TemplateError, UnicodeDecodeError) as error:
            raise _broken(name, error) from None
        if name in TEMPLATES and "user" not in found.blocks:
            raise _no_user(name)


def rendered(template: str, data: dict, folder: str | None = None) -> list[dict]:
    """The system and user message that a template makes of the data; a folder has templates that replace those of the same name here.

    ParameterError: the template does not work; it names the line.
    """
    return _messages(template, _texts(template, ("system", "user"), data, folder))


def forward_rendered(
    instruction: str, form: str, question: str, inputs: tuple[tuple[str, str | None], ...]
) -> list[dict]:
    """The messages of our own forward.j2, each made once for all nodes for which it is the same."""
    return _messages(
        "forward",
        {"system": _forward_system(instruction, form), "user": _forward_user(question, inputs)},
    )


def digest(folder: str | Path | None) -> str | None:
    """What tells the templates of a folder from all others: the start of the SHA-256 of their names and texts; None for no folder."""
    if folder is None:
        return None
    texts = {
        path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.j2"))
    }
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:8]


def fence(text: str, label: str) -> str:
    """Data for a prompt, between fences that nothing in it can close: CommonMark's rule, one backtick more than the longest run inside.

    ParameterError: it is no text.
    """
    if not isinstance(text, str):
        raise ParameterError(
            f"the {label} is {text}; a model is shown text"
        )  # where it is undefined, jinja2 says so here
    marks = (
        "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        if "```" in text
        else "```"
    )
    return f"{marks}{label}\n{text}\n{marks}"


def fenced(prompt: str) -> list[tuple[str, str]]:
    """The (label, text) of each fenced block of a prompt, as `fence` writes them."""
    return [(label, text) for _, label, text in _FENCED.findall(prompt)]


def outside(prompt: str) -> str:
    """A prompt without its fenced blocks: our own words."""
    return _FENCED.sub("", prompt)


@lru_cache(512)
def _forward_system(instruction: str, form: str) -> str:
    return _texts(
        "forward", ("system",), {"node": SimpleNamespace(instruction=instruction, form=form)}
    )["system"]


@lru_cache(512)
def _forward_user(question: str, inputs: tuple[tuple[str, str | None], ...]) -> str:
    return _texts("forward", ("user",), {"question": question, "inputs": dict(inputs)})["user"]


def _texts(
    template: str, roles: tuple[str, ...], data: dict, folder: str | None = None
) -> dict[str, str]:
    """What the blocks of these names that a template has make of the data."""
    from jinja2 import TemplateError

    try:
        templates = _templates(folder)
        found = templates.get_template(template + ".j2")
        context = found.new_context({**templates.globals, **data}, shared=True)
        return {
            role: "".join(found.blocks[role](context)).strip()
            for role in roles
            if role in found.blocks
        }
    except TemplateError as error:
        raise _broken(template, error, f"; it is given {', '.join(sorted(data))}") from None


def _messages(template: str, texts: dict[str, str]) -> list[dict]:
    if not texts.get("user"):
        raise _no_user(template)
    return [{"role": role, "content": text} for role, text in texts.items() if text]


def _broken(template: str, error, given: str = "") -> ParameterError:
    line = getattr(error, "lineno", None)
    where = f"{template}.j2" + (f", line {line}" if line else "")
    return ParameterError(
        f"the prompt template {where} does not work: {getattr(error, 'message', error)}{given}"
    )


def _no_user(template: str) -> ParameterError:
    return ParameterError(
        f"the prompt template {template}.j2 does not work: it has no block called user, or an empty one"
    )


@lru_cache
def _templates(folder: str | None):
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*([folder] if folder else []), Path(__file__).parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=folder is not None,
    )
    env.filters["fence"] = fence
    return env
