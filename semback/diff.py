"""What changed between two texts, word by word: how instructions are compared before and after a run."""

import re
from collections.abc import Mapping
from difflib import SequenceMatcher


class Diff(str):
    """The texts that changed, as `git diff --word-diff` writes it: [-taken out-]{+put in+}. Empty where none changed.

    pieces: {name: ((mark, text), …)} of the texts that changed; the mark is "=" for what stayed, "-" for what went, "+" for
    what came. The pieces without "+" make up the old text to the letter, those without "-" the new one.
    """

    pieces: dict[str, tuple[tuple[str, str], ...]]

    def __new__(cls, pieces: Mapping[str, tuple[tuple[str, str], ...]]):
        text = "\n\n".join(
            f"[{name}]\n{''.join(marked(*piece) for piece in changed)}"
            for name, changed in pieces.items()
        )
        diff = super().__new__(cls, text)
        diff.pieces = dict(pieces)
        return diff

    def __getnewargs__(self):
        return (self.pieces,)


def texts_diff(before: Mapping[str, str], after: Mapping[str, str]) -> Diff:
    """Compare the texts of the same names; those that are the same are left out."""
    return Diff(
        {
            name: tuple(_pieces(old, after[name]))
            for name, old in before.items()
            if old != after[name]
        }
    )


def marked(mark: str, text: str, marks=None) -> str:
    """A piece with its marks around it, white space in front left outside, where it can be seen for what it is.

    marks: {"-": (before, after), "+": (before, after)}; without it, git's.
    """
    if mark == "=":
        return text
    begin, end = (marks or {"-": ("[-", "-]"), "+": ("{+", "+}")})[mark]
    words = text.lstrip() or text
    return f"{text[: len(text) - len(words)]}{begin}{words}{end}"


def _pieces(old: str, new: str):
    """(mark, text) of what stayed, went and came. A word is taken with the white space before it."""
    a, b = (re.findall(r"\s*\S+|\s+", text) for text in (old, new))
    matcher = SequenceMatcher(
        None, a, b, autojunk=len(b) > 2000
    )  # without it, time grows with the square of the length
    same = [(0, 0, 0), *matcher.get_matching_blocks()]
    # Fewer words than were changed before and after them are there by chance: as part of the change they are read more easily.
    changed = [
        max(i - (i0 + size), j - (j0 + size)) for (i0, j0, size), (i, j, _) in zip(same, same[1:])
    ]
    went = came = 0
    for (i, j, size), before, after in zip(same[1:], changed, [*changed[1:], 0]):
        if 0 < size < min(before, after):
            continue
        gone, put = "".join(a[went:i]), "".join(b[came:j])
        space = re.match(r"\s*", gone)[0]
        if space and put.startswith(space):
            yield "=", space
            gone, put = gone.removeprefix(space), put.removeprefix(space)
        yield from (
            (mark, text)
            for mark, text in (("-", gone), ("+", put), ("=", "".join(a[i : i + size])))
            if text
        )
        went, came = i + size, j + size
