"""What changed between two texts, word by word: instructions before and after a run."""

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import starmap

Piece = tuple[str, str]  # a mark and a text
GIT = {"-": ("[-", "-]"), "+": ("{+", "+}")}  # what stands before and after a marked text


class Diff(str):
    """The texts that changed, as `git diff --word-diff` writes it: [-old-]{+new+}.

    Empty if none changed.

    Attributes
    ----------
    pieces : dict of str to tuple of (str, str)
        {name: ((mark, text), …)} of the texts that changed. The mark is "=" for what stayed, "-"
        for what was removed, "+" for what was added. The pieces without "+" make up the old text
        to the letter, those without "-" the new one.
    """

    pieces: dict[str, tuple[Piece, ...]]


def texts_diff(before: Mapping[str, str], after: Mapping[str, str]) -> Diff:
    """Compare the texts of the same names; those that are equal are left out."""
    changed = {name: text for name, text in after.items() if text != before[name]}
    pieces = {name: tuple(_pieces(before[name], text)) for name, text in changed.items()}
    texts = [f"[{name}]\n" + "".join(starmap(marked, found)) for name, found in pieces.items()]
    diff = Diff("\n\n".join(texts))
    diff.pieces = pieces
    return diff


def marked(mark: str, text: str) -> str:
    """A piece between its marks; white space in front stays outside, where it can be seen."""
    if mark == "=":
        return text
    begin, end = GIT[mark]
    words = text.lstrip() or text
    return f"{text[: len(text) - len(words)]}{begin}{words}{end}"


def _pieces(old: str, new: str) -> Iterator[Piece]:
    """The marked pieces of a change. A word is taken with the white space before it."""
    a = re.findall(r"\s*\S+|\s+", old)
    b = re.findall(r"\s*\S+|\s+", new)
    autojunk = len(b) > 2000  # without it, time grows with the square of the length
    matcher = SequenceMatcher(None, a, b, autojunk=autojunk)
    for kind, a_start, a_end, b_start, b_end in matcher.get_opcodes():
        removed = "".join(a[a_start:a_end])
        added = "".join(b[b_start:b_end])
        if kind == "equal":
            yield "=", removed
            continue
        space = (re.match(r"\s*", removed) or [""])[0]
        if space and added.startswith(space):
            yield "=", space
            removed, added = removed.removeprefix(space), added.removeprefix(space)
        if removed:
            yield "-", removed
        if added:
            yield "+", added
