"""A model's reply, and reading it: without thoughts, and by the tagged blocks of a coach.

A reply is read strictly: what is missing is a named problem and never guessed. How answers to
questions are read is in `tasks.answers`.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# Marks of thoughts, opening and closing; gpt-oss writes them as channels.
_THOUGHTS = re.compile(r"""(?ix) </?(?:\w+[:_])?(?:think(?:ing)?|thoughts?(?:_process)?|reasoning
    |reflection|scratchpad|monologue)\s*> | \[/?THINK(?:ING)?\] | ◁/?think▷ | <\|/?think(?:ing)?\|>
    | <\|(?:begin|end)_of_thought\|> | <\|(?:START|END)_THINKING\|>
    | <\|channel\|>(?:analysis|final)<\|message\|>""")
_CLOSING = re.compile(r"(?i)/|end_|final")
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n(.*)\n[ \t]*\1", re.DOTALL)
_NAME = re.compile(r"""(?ix)\bto\s*[=:]\s*
    (?: "([^"]*)" | '([^']*)' | “([^”]*)” | ‘([^’]*)’ | `([^`]*)` | ([^\s"']+) )""")


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Parameters
    ----------
    text : str
        Empty if the model wrote nothing.
    finish_reason : str
        "stop", "length" (cut at the token limit), "refusal", "content_filter" and others.
    usage : mapping of str to int
        {"prompt_tokens", "completion_tokens"}; empty if the endpoint does not report it.
    model : str
        As the endpoint names it.
    recorded : bool
        Whether it came from the cache.
    key : str
        Of its cache entry, 64 hex digits.
    fingerprint : str, optional
        The endpoint's `system_fingerprint`.
    shared : bool
        Whether it came from an in-flight request of another caller.
    truncated : bool
        Whether the endpoint read only part of the prompt, as its count of tokens shows.
    """

    text: str
    finish_reason: str
    usage: Mapping[str, int]
    model: str
    recorded: bool
    key: str
    fingerprint: str | None = None
    shared: bool = False
    truncated: bool = False


def without_thoughts(text: str) -> str:
    """Remove the thoughts with which a reasoning model begins its reply.

    Parameters
    ----------
    text : str
        A reply. Its thoughts stand between ``<think>`` and ``</think>``, ``<thinking>`` and
        ``</thinking>``, ``[THINK]`` and ``[/THINK]`` or the like; the opening tag is missing if the
        chat template has written it already.

    Returns
    -------
    str
        What follows the thoughts, stripped; "" if they never end. Pairs of tags that a text
        mentions further on ("reason between <think> and </think>") are left as they are.
    """
    text = text.replace("\r\n", "\n").strip()
    start, depth, opened, last_closing = 0, 0, False, 0
    for tag in _THOUGHTS.finditer(text):
        if not _CLOSING.search(tag[0]):
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


def _blocks(text: str, tag: str) -> Iterator[tuple[str, str | None]]:
    """(name, text) of each block of a reply; the text is None if the block is broken.

    A block ends at its closing tag, or where a line begins with the next opening tag. It is broken
    if it is not closed, or holds another tag of this kind.
    """
    opened: re.Match | None = None
    for found in re.finditer(rf"(?i)(\*\*|`|)<\s*(/?)\s*{tag}(\s[^<>\n]*)?>\1", text):
        if opened and not found[2] and _line_before(text, found):
            yield _name(opened), None
            opened = found if _name(found) != _name(opened) else None
            continue
        if opened and (content := _content(text, opened, found)) is not None:
            yield _name(opened), content
        opened = None if found[2] else found
    if opened:
        yield _name(opened), None


def _line_before(text: str, tag: re.Match) -> str:
    """What stands before a tag on its line; of a long line, its end."""
    return text[max(0, tag.start() - 200) : tag.start()].rpartition("\n")[2].strip()


def _name(opening: re.Match) -> str:
    attributes = (opening[3] or "").replace('\\"', '"')  # escaped as in JSON
    found = _NAME.search(attributes)
    return found[found.lastindex or 0].strip() if found else attributes.strip("\"' ")


def _content(text: str, opening: re.Match, end: re.Match) -> str | None:
    """The text between two tags, without a fence that encloses it; "" where it has no words.

    None if the reply only mentions the tags: "between <tag> and </tag>", or another word or two
    within a line that are not a sentence.
    """
    between = text[opening.end() : end.start()]
    content = between.strip()
    if "\n" not in between and 0 < len(content.split()) <= 2:
        sentence = re.search(r"\w[.!?]$", content) or not _line_before(text, opening)
        if not sentence or content.lower() in ("and", "or", "to"):
            return None
    if fenced := _FENCE.fullmatch(content):
        content = fenced[2].strip()
    return content if re.search(r"\w", content) else ""


def named_blocks(
    text: str, tag: str, names: Sequence[str] = ("",)
) -> tuple[dict[str, str | None], str | None]:
    """The last complete block for each name, and what is wrong with the reply.

    Blocks for other names are ignored if all that were asked for are there.

    Parameters
    ----------
    text : str
        A reply without thoughts.
    tag : str
        "gradient", "critique" or "instruction". Its case does not matter, nor does HTML's escaping.
    names : sequence of str
        The values of the attribute `to`, whose case does not matter either; ("",) for the one block
        that needs no attribute.

    Returns
    -------
    found : dict of str to (str or None)
    problem : str or None
    """
    if f"<{tag}" not in text.lower():
        text = html.unescape(text)
    text = re.sub(rf"(?i)<({tag}\b[^<>\n]*)/>", rf"<\1></{tag}>", text)
    spelled = {name.casefold(): name for name in names} | {name: name for name in names}
    last: dict[str, str | None] = {}
    for name, content in _blocks(text, tag):
        name = "" if "" in names else spelled.get(name, spelled.get(name.casefold(), name))
        last[name] = content or last.get(name, content)
    found = {name: last.get(name) or None for name in names}
    problems = []
    for name in names:
        block = f'the <{tag}> block for "{name}"' if name else f"the <{tag}> block"
        if name not in last:
            problems.append(f"{block} is missing")
        elif last[name] is None:
            problems.append(f"{block} is not closed, or there is another <{tag}> tag in it")
        elif not last[name]:
            problems.append(f"{block} is empty")
    others = [name for name in last if name not in found]
    if problems and others:
        some = ", ".join(f'"{name}"' for name in others[:2])
        more = f" and {len(others) - 2} more" if len(others) > 2 else ""
        problems.append(f"there are <{tag}> blocks for {some}{more} in place of it")
    return found, "; ".join(problems) or None
