"""A model's reply, and reading it: without thoughts, and by the tagged blocks of a coach.

A reply is read strictly: what is not there is a named problem, never a guess. How answers to
questions are read is in `tasks.answers`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_THOUGHTS = re.compile(  # marks of thoughts, opening and closing; gpt-oss writes them as channels
    r"(?i)(?P<open><(?:think(?:ing)?|thought|reasoning)>|\[THINK\]|<\|begin_of_thought\|>|◁think▷"
    r"|<\|channel\|>analysis<\|message\|>)"
    r"|</(?:think(?:ing)?|thought|reasoning)>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷"
    r"|<\|channel\|>final<\|message\|>"
)
_FENCE = re.compile(r"(`{3,})[^\n`]*\n(.*)\n\1", re.DOTALL)
_ATTRIBUTE = re.compile(r"""\s*to\s*=\s*(?:"([^"\n]*)"|'([^'\n]*)'|([^"'\s]+))\s*""")


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Parameters
    ----------
    text : str
        Empty where the model wrote nothing.
    finish_reason : str
        "stop", "length" (cut at the token limit), "refusal", "content_filter" and others.
    usage : mapping of str to int
        {"prompt_tokens", "completion_tokens"}; empty where the endpoint does not tell.
    model : str
        As the endpoint names it.
    recorded : bool
        Whether it came from the cache.
    key : str
        Of its cache entry, 64 hex digits.
    fingerprint : str, optional
        The endpoint's `system_fingerprint`.
    shared : bool
        Whether an in-flight request of another caller brought it.
    """

    text: str
    finish_reason: str
    usage: Mapping[str, int]
    model: str
    recorded: bool
    key: str
    fingerprint: str | None = None
    shared: bool = False


def without_thoughts(text: str) -> str:
    """Remove the thoughts with which a reasoning model begins its reply.

    Parameters
    ----------
    text : str
        A reply. Its thoughts stand between ``<think>`` and ``</think>``, ``<thinking>`` and
        ``</thinking>``, ``[THINK]`` and ``[/THINK]`` or the like; the opening tag is missing where
        the chat template has written it already.

    Returns
    -------
    str
        What follows the thoughts, stripped; "" where they never end. Pairs of tags that a text
        mentions further on ("reason between <think> and </think>") are left as they are.
    """
    text = text.replace("\r\n", "\n").strip()
    start, depth, opened, last_closing = 0, 0, False, 0
    for tag in _THOUGHTS.finditer(text):
        if tag["open"]:
            opened = opened or (depth == 0 and not text[start : tag.start()].strip())
            depth += 1
            continue
        depth -= 1
        last_closing = tag.end()
        if depth < 0 or (opened and depth == 0):
            start, depth, opened = tag.end(), 0, False
    if opened:  # it never ends, or it mentions an opening tag
        start = last_closing if last_closing > start else len(text)
    return text[start:].strip()


class Block(NamedTuple):
    """The text between an opening and a closing tag; `name` is the value of its attribute `to`."""

    name: str
    text: str


def blocks(text: str, tag: str) -> tuple[list[Block], list[str]]:
    """The complete blocks ``<tag to="name">…</tag>`` of a reply.

    A block ends at its closing tag, or where a line begins with the next opening tag. A fence that
    encloses a block's whole text is taken off. Tags on one line with at most two words between
    them are only spoken of, and are no block.

    Returns
    -------
    blocks : list of Block
        In their order; without the attribute, a name is "". A text without words is "".
    broken : list of str
        The names of blocks that are not closed, or hold another tag of this kind.
    """
    complete: list[Block] = []
    broken: list[str] = []
    opened: re.Match | None = None
    for found in re.finditer(rf"<(/?){tag}(\s[^<>\n]*)?>", text):
        closing = bool(found[1])
        line_start = text.rfind("\n", 0, found.start()) + 1
        in_line = not text[line_start : found.start()].isspace() and line_start < found.start()
        if opened and not closing and in_line:
            broken.append(_name(opened))
            opened = None
            continue
        if opened and (content := _content(text, opened, found)) is not None:
            complete.append(Block(_name(opened), content))
        opened = None if closing else found
    if opened:
        broken.append(_name(opened))
    return complete, broken


def _name(opening: re.Match) -> str:
    attribute = opening[2] or ""
    if found := _ATTRIBUTE.fullmatch(attribute):
        return found[found.lastindex or 0]
    return attribute.strip()


def _content(text: str, opening: re.Match, end: re.Match) -> str | None:
    """The text between two tags; None where the reply only speaks of the tags."""
    content = text[opening.end() : end.start()]
    if "\n" not in content and len(content.split()) <= 2:
        return None
    content = content.strip()
    if fenced := _FENCE.fullmatch(content):
        content = fenced[2].strip()
    return content if re.search(r"\w", content) else ""


def named_blocks(
    text: str, tag: str, names: Sequence[str] = ("",)
) -> tuple[dict[str, str | None], str | None]:
    """The last complete block for each name, and what is wrong with the reply.

    Blocks for other names are ignored where all that were asked for are there.

    Parameters
    ----------
    text : str
        A reply without thoughts.
    tag : str
        "gradient", "critique" or "instruction".
    names : sequence of str
        The values of the attribute `to`; "" for a block without one.

    Returns
    -------
    found : dict of str to (str or None)
    problem : str or None
    """
    complete, broken = blocks(text.replace("\r\n", "\n"), tag)
    last = {block.name: block.text for block in complete}
    found = {name: last.get(name) or None for name in names}
    problems = []
    for name in names:
        block = f'the <{tag}> block for "{name}"' if name else f"the <{tag}> block"
        if name in last and not last[name]:
            problems.append(f"{block} is empty")
        elif name not in last and name in broken:
            problems.append(f"{block} is not closed, or there is another <{tag}> tag in it")
        elif name not in last:
            problems.append(f"{block} is missing")
    others = [name for name in last if name not in found]
    if problems and others:
        some = ", ".join(f'"{name}"' for name in others[:2])
        more = f" and {len(others) - 2} more" if len(others) > 2 else ""
        problems.append(f"there are <{tag}> blocks for {some}{more} in place of it")
    return found, "; ".join(problems) or None
