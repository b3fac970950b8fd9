"""What a reply says: from the text a model wrote to one canonical answer, or None where it holds none that is certain.

One rule for all kinds. A final statement wins ("the answer is …", "Answer: …", "#### …", "\\boxed{…}"), the last one that says anything.
Without one, the reply must *be* the answer, open with it on a line of its own, or close with a sentence that holds exactly one candidate.
A question and what answers it, what its clause denies, weighs or ascribes to a hint, "(A) or (B)" or two different candidates are no
answer: a right answer missed is asked for again, a wrong one taken for right stays in the results for good.
"""

import json
import re
from itertools import takewhile

MARK = re.compile(  # the words that announce an answer; `junk` looks like it and is not
    r"""(?:^|\b(?=[iwsaepcrbf])|(?=\#))  # where one can start; the rest alone is slow
    (?: (?P<junk>\b(?:if|whether|suppose|assume|assuming|each|every|any|possible|what)\s+(?:(?:that|is|the|is\ the)\s+)?(?:\w+\s+)?answer\b)
    | \b(?:answer|(?:correct|right|best|final)\ (?:option|choice|response|result|value|total|one))\b(?!\ (?:choices|options))
      (?:\ (?!is\b|was\b|not\b)[\w'’]+){0,6}? ["'”]?\ *
      (?: (?P<says>\b(?:is|was|(?:would|should|will|must)\ be|equals)\b|=)\s*:?\s* | :\s* )
    | ^\W*(?:the\ )?(?:final\ |correct\ )?answer\ *(?:\n\s*|[-–—]\ +(?!\d)|(?=\())
    | \#\#\#\#(?!\ *\d+[.)]\ +\w)\ * | ^A:\s*)""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
NEEDED = re.compile(
    r"answer|####|(?:^|\n)a:|(?:correct|right|best|final) (?:option|choice|response|result|value|total|one)"
)
STARTS = (
    "answer",
    "####",
    "a:",
    "correct ",
    "right ",
    "best ",
    "final ",
)  # of what it matches; to find these is quick
FILLER = re.compile(
    r"(?:\W|\b(?:option|choice|answer|letter|about|approximately|exactly|a|total|of|the|simply|just|definitely|clearly|"
    r"therefore|thus|so|hence|x)\b)*",
    re.IGNORECASE,
)
DENIAL = re.compile(  # what denies, only weighs or ascribes to others what follows it in its clause
    r"\b(?:not|nothing|nobody|none|never|neither|nor|cannot|unlike|hardly|no(?! doubt| question|[,:])|far from|fail(?:s|ed)? to|false that|"
    r"(?:all|any\w*|every\w*) (?:but|except)|(?:rather|other|less|more|fewer|greater) than|instead of|wrong|incorrect|unlikely|mistake|"
    r"(?<!no )doubt|(?<!at )least|thought|(?:might|may|could|would|some) (?:think|say|believe)|says|claims|suggests|hint\w*|at first|"
    r"rul\w+ out|eliminat(?:e[sd]?|ing)|exclud(?:e[sd]?|ing)|reject\w*|discard\w*|contradict\w*|consider|look at|check(?:ing)?(?! out)|"
    r"test(?:ing)?|try(?:ing)?|suppos(?:e|ing)|assum(?:e|ing)|(?:tempting|obvious|common|plausible)(?=\s*$))\b|n['’]t\b",
    re.IGNORECASE,
)
BREAK = re.compile(  # where a new clause begins, of which a denial before it says nothing: "it does not follow, so the argument is …"
    r"""; | [,—–]\s*(?:and|but|so|thus|therefore|hence|which\ means)\b | ^[^,]*,\s*$ | (?<!!)=\W*$
    | (?: \b(?:and|but|so|thus|therefore|hence|which\ means)\b,?\s+ (?=SUBJECT) | [,—–]\s+ (?=SUBJECT[^,;—–]*$) )""".replace(
        "SUBJECT", r"(?:the|this|it|he|she|they|we|I|my|there|(?-i:[A-Z][a-z]+))\b"
    ),
    re.IGNORECASE | re.VERBOSE,
)
REFUTED = re.compile(
    r"(?i)\W*\w*,?\s*(?:\b(?:is|are|was|can|could|would|does)(?: not\b|n['’]t)|"
    r"\b(?:cannot|fails|contradicts?|violates?)\b|\b(?:is|be|been) (?:\w+ )?(?:wrong|incorrect|false|impossible|ruled out|"
    r"out(?=\W*$)|eliminated|excluded)\b)"
)
HEDGE = re.compile(
    r"(?i)\b(?:either|whether|maybe|perhaps|might|may|could|possibly|unsure|unclear|not sure|(?:can?|do)n[o'’]t|if)\b|\?"
)
UNSURE = re.compile(
    r"\b(?:either|maybe|perhaps|possibly|unsure|unclear|not sure|(?:might|may|could) be)\b",
    re.IGNORECASE,
)
SUPPOSED = re.compile(
    r"\b(?:if|were|had|unless|otherwise)\b", re.IGNORECASE
)  # in the sentence of one that says "would be"
JOINED = re.compile(r"\W*(?:$|(?:or|and|but|nor|vs)\b)", re.IGNORECASE)
RETRACTED = re.compile(
    r"(?:^|[.!?\n]\s*)(?:but |no,? |oh,? |hmm,? )?(?:wait|actually|correction|on second thought|hold on|scratch that)\b"
    r"|(?:\.\.\.|…)\s*no\b|(?:^|[.!?\n,—–-]\s*)(?:no,? |but )?(?:that|this|it)(?: is|['’]s) (?:\w+ )?(?:wrong|incorrect|"
    r"not\b\W*(?:$|\n|right|correct|so|true))",
    re.IGNORECASE,
)
RUN_ON = re.compile(
    r"(?=^[ \t*#]*(?:Q|Question|Problem)[ \t]*[:.])", re.MULTILINE
)  # where a completion runs on; that never counts
SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+|\n+")
NUMBER = re.compile(
    r"(?<![\w.])(?<!\d[/:^,])(?<!sqrt\{)([-−–]?)[$€£¥]?([-−–]?)(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?![\d²³¹⁰⁴-⁹⁻]|[.,/:^_]\d|(?:st|nd|rd|th|k|K|M|[eE]\d+)\b|\s*[¼-¾⅐-⅞]|\s+(?:and\s+)?\d+/\d|"
    r"\s+and\s+(?:an?|one|two|three)[ -](?:half|thirds?|quarters?)\b|\s*(?:[x×*]\s*10\s*\^|\\(?:pi|times|cdot)\b)|"
    r"\s*(?:hundred|thousand|million|billion|trillion|dozen)\b)"
)
SIGN = re.compile(
    r"(?:^|(?P<equals>[=(:]))\s*[-−–—]\s*$|(?P<word>\b(?:minus|negative)\s+)$", re.IGNORECASE
)  # a first dash may be none
ASIDE = re.compile(
    r"(?!.*(?:[(;]|\b(?:for|in|per|every|each|of|from|at|over|after|with|when|because|since|which|where)\b))"
)
CLAUSE = re.compile(r"[.!?\n]")
JSON = re.compile(  # a member "answer" of an object, with a text, a list of texts, a number or a Python string
    r"""(?i)[{,]\s*+["'](?:final[ _])?answer["']\s*:\s*+(TEXT|\[\s*TEXT(?:\s*,\s*TEXT)*+\s*\]|'[^'\n]*'|[-\w.]++)\s*(?:,|\}[\s}\]]*)""".replace(
        "TEXT", r'"(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-f]{4})*+"'
    )
)


def _clean(reply: str) -> str:
    """The reply without thoughts, Markdown and LaTeX; a boxed or tagged answer, or one in JSON, becomes a `####` line."""

    def member(found):
        value = json.loads(found[1], strict=False) if found[1][0] in '["' else found[1].strip("'")
        return f"\n\n#### {', '.join(value) if isinstance(value, list) else value}\n\n"

    text = reply.rsplit("</think>", 1)[-1]
    text = (
        ""
        if text.lstrip().startswith("<think>")
        else text.replace("\r\n", "\n").replace("\u00a0", " ")
    )
    text = JSON.sub(member, text) if "{" in text else text
    text = (
        re.sub(r"<<[^<>\n]*=[^<>\n]*>>", "", text) if "<<" in text else text
    )  # without GSM8K's calculator marks
    if "\\" in text or "<answer>" in text or "{,}" in text:
        text = re.sub(r"\\(?:text|textbf|mathbf|mathrm)\s*\{([^{}]*)\}", r"\1", text)
        boxed = r"\\boxed\s*\{((?:\\.|\{[^{}]*\}|[^{}\\])*)\}|<answer>(.*?)</answer>"
        text = re.sub(
            boxed, lambda m: f"\n#### {(m[1] or m[2] or '').strip()}\n", text, flags=re.DOTALL
        )
        text = re.sub(r"\\[()\[\],!]", "", text.replace("{,}", ","))
        text = re.sub(r"\\([{}$%#&])", r"\1", text)
    if "*" in text or "_" in text or "`" in text:
        text = re.sub(r"\*\*|__|`|(?<![\w*])\*(?=\S)|(?<=[^\s*])\*(?!\w)", "", text)
    return text.strip()


def _read(reply: str, state, close) -> str | None:
    """The answer by the rule above. `state(text, says)` reads what follows an announcement, `close(text)` a reply without
    one; both give a value, "" where the text contradicts itself, or None where it says nothing."""
    blocks = RUN_ON.split(text) if "Q" in (text := _clean(reply)) or "Problem" in text else [text]
    return _read_block(next((block.strip() for block in blocks if block.strip()), ""), state, close)


def _announcements(text: str) -> list[re.Match]:
    """The matches of MARK that are not junk. The pattern is slow, so it starts shortly before the first word that it needs."""
    folded = text.casefold()
    place = min((at for start in STARTS if (at := folded.find(start)) >= 0), default=len(folded))
    if not (first := NEEDED.search(folded, max(0, place - 1))):
        return []
    start = max(0, first.start() - 100) if len(folded) == len(text) else 0
    return [mark for mark in MARK.finditer(text, start) if not mark["junk"]]


def _denied(before: str) -> bool:
    """Whether the clause that `before` ends with denies, only weighs or ascribes to others what follows."""
    return bool(DENIAL.search(before) and DENIAL.search(BREAK.split(before)[-1]))


def _unmeant(text: str, mark: re.Match) -> bool:
    """Whether the sentence of an announcement denies what it announces, or only supposes it: "the answer would be (B) if …"."""
    before = CLAUSE.split(text[max(0, mark.start() - 300) : mark.start()])[-1]
    after = CLAUSE.split(text[mark.end() : mark.end() + 300], maxsplit=1)[0]
    return (
        _denied(before)
        or "would be" in mark[0].lower()
        and bool(SUPPOSED.search(f"{before} … {after}"))
    )


def _read_block(text: str, state, close) -> str | None:
    end, unmeant = len(text), False
    for mark in reversed(_announcements(text)):
        if _unmeant(text, mark):
            unmeant, end = True, mark.start()
            continue
        value, end = state(text[mark.end() : end], bool(mark["says"])), mark.start()
        if value is not None:
            retracted = RETRACTED.search(rest := text[mark.end() :])
            return (
                _read_block(rest[retracted.end() :].lstrip(" ,.:—-\n"), state, close)
                if retracted
                else value or None
            )
    return close(text) or None if text and not unmeant else None


def _settle(text: str, find, joined=JOINED, leading: bool = False) -> str | None:
    """The one candidate in a sentence; "" where it holds several, None where it holds none or denies it. With `leading`,
    only one that the sentence starts with. `joined` matches what makes a further candidate a rival, not an aside."""
    if not (found := find(text)):
        return None
    start, end, value = found[0]
    first = FILLER.fullmatch(text[:start]) or text[:start].rstrip(" $").endswith("=")
    if rivals := [i for i, candidate in enumerate(found) if candidate[2] != value]:
        tail = text[found[-2][1] : found[-1][0]]
        concluded = re.search(r"(?:\b(?:is|be|to|equals)|[=→])\W*$", tail) and not re.search(
            r"\w", text[found[-1][1] :]
        )
        if concluded and ("=" in tail or not joined.match(tail)):
            return found[-1][2]  # "not ( True ) and ( True ) is False"
        return (
            value
            if first
            and not joined.match(text[end : found[rivals[0]][0]])
            and not REFUTED.match(text[end:])
            else ""
        )
    return (
        value
        if (first or not leading) and not _denied(text[:start]) and not REFUTED.match(text[end:])
        else None
    )


def _by_candidates(reply: str, find, joined=JOINED) -> str | None:
    """Read with `find(text)`, which gives the candidates in a text as (start, end, canonical answer)."""

    def state(rest, says):
        sentence = SENTENCE.split(rest.strip(), maxsplit=1)[0]
        if (
            (unsure := UNSURE.search(sentence))
            and (found := find(sentence))
            and unsure.start() < found[0][0]
        ):
            return ""
        return None if sentence.endswith("?") else _settle(sentence, find, joined, leading=not says)

    def opener(line):  # the candidate that a line starts with
        found = find(line)
        return found[0] if found and not line[: found[0][0]].strip("( -*•") else None

    def close(text):
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        last = SENTENCE.split(lines[-1])[-1]
        listing = (
            opener(lines[-1]) and len({found[2] for found in map(opener, lines) if found}) > 1
        )  # the options, told again
        asked = (
            text.removesuffix(last).rstrip("\"') \n").endswith("?")
        )  # "Does the party agree? No" answers another question than ours
        closing = (
            ""
            if listing or asked and find(last) or HEDGE.search(last) and find(last)
            else _settle(last, find, joined)
        )
        if closing is None and len(lines) == 1 and not find(last):
            closing = _settle(text, find, joined, leading=True)  # "B. 12/25/1937"
        if (opening := opener(lines[0])) is None:
            return closing
        after = lines[0][opening[1] :]
        if re.search(r"\w", after) and not (opening[2].isalpha() and after[0] in ",.;:!—–"):
            return closing  # "No, they differ." opens with an answer; "(B) they differ." and "1. They differ." need not
        return opening[2] if closing in (None, opening[2]) else ""

    return _read(reply, state, close)


def letter(reply: str, texts: tuple[str, ...] = ()) -> str | None:
    """The option chosen, as ``"(B)"``; or, word for word, one of `texts`, for the few questions whose answer is no option."""
    pattern = re.compile(
        r"\(([A-Ra-r])\)|^\W*([a-r])(?=\)?\W*$)|"
        r"^\W*(?:[Oo]ption |[Cc]hoice )?([A-R])(?=\W*$|[).:;]|,(?!\s*(?:and |or )?[A-R]\b)|\s*[-–—]\s|"
        r"\s+(?:because|since|as|is (?:the )?(?:correct|right|best))\b|\s+\d|(?<![AI])\s+[A-Z])|"
        r"\b(?:is|be|[Oo]ption|[Cc]hoice|[Aa]nswer)\s+([A-R])(?=\W*$|[).:;]|,(?!\s*(?:and |or )?[A-R]\b)|"
        r"\s+is (?:the )?(?:correct|right|best)\b)"
    )

    def find(text):
        if whole := [t for t in texts if text.strip(" .\"'").casefold() == t.casefold()]:
            return [(0, len(text), whole[0])]
        return [(m.start(), m.end(), f"({m[m.lastindex].upper()})") for m in pattern.finditer(text)]

    return _by_candidates(reply, find)


def choice(reply: str, words: tuple[str, ...]) -> str | None:
    """The one of `words` that is said, in any case: ``choice("It is INVALID.", ("valid", "invalid"))`` is ``"invalid"``."""
    aside = r"(?=\s*(?:$|[^\w\s]|(?:because|since|as|and|or|but)\b))"  # "there is no way" does not say no
    alone = [
        rf"(?<![\w'’-])({word})(?![\w'’-])" + aside * (word.lower() in ("yes", "no"))
        for word in words
    ]
    pattern = re.compile("|".join(alone), re.IGNORECASE)
    return _by_candidates(
        reply,
        lambda text: [(m.start(), m.end(), words[m.lastindex - 1]) for m in pattern.finditer(text)],
    )


def number(reply: str) -> str | None:
    """A number without commas, currency, unit or trailing zeros: ``"$1,234.00"`` is ``"1234"``, ``"18.50"`` is ``"18.5"``."""

    def canonical(sign, digits):
        whole, _, part = digits.replace(",", "").partition(".")
        value = f"{whole.lstrip('0') or '0'}.{part}".rstrip("0").rstrip(".")
        return value if value == "0" else sign + value

    def find(
        text,
    ):  # of "18 (9 * 2)" only what stands before the aside, of "9 * 2 = $18" only what stands after the sign
        head = re.split(r"(?<=[\w.%])\s+\(|;|\b(?:because|since)\b", text)[0]
        text = head if NUMBER.search(head) else text
        found = NUMBER.finditer(
            text, text.rfind("=") if "=" in text and re.search(r"=\W*\d", text) else 0
        )
        return [
            (m.start(), m.end(), canonical("-" if m[1] or m[2] or sign else "", m[3]))
            for m in found
            if not (sign := SIGN.search(text[max(0, m.start() - 12) : m.start()]))
            or sign["equals"]
            or sign["word"]
        ]

    return _by_candidates(reply, find, ASIDE)


def brackets(reply: str) -> str | None:
    """The missing closing brackets, separated by single blanks. A reply that repeats what was already there is not the
    completion that was asked for and gives None; so does a last line with anything but brackets in it."""

    def run(line, rest=r"(?:\W*$|[.,;:]\s|\s+\w)"):
        found = re.match(
            r"[^\w\[\]{}<>()]*+((?:[\[\]{}<>)]|\((?!\w))(?:[\s\"',“”‘’]*+(?:[\[\]{}<>)]|\((?!\w)))*+)"
            + rest,
            line,
        )
        return found and (
            "" if set(found[1]) & set("[({<") else " ".join(re.sub(r"[\s\"',“”‘’]", "", found[1]))
        )

    def state(
        rest, says, way=1
    ):  # one line of brackets, or lines of one bracket each, from the first line on or backwards
        lines = rest.split("\n")[::way]
        found = list(takewhile(bool, (run(line, r"\W*$") for line in lines if line.strip())))[::way]
        if not found:
            return run(lines[0]) if way == 1 else None
        return " ".join(found) if len(found) == 1 or max(map(len, found)) == 1 else ""

    if not re.search(r"\\[\[(]", reply):  # then it is Markdown that escapes them, and not LaTeX
        reply = re.sub(r"\\([\])>])", r"\1", reply)
    reply = re.sub(
        r"\\boxed\s*\{(\\(?:text|math)\w*\s*\{)?([^\w\n]*)\}(?(1)\s*\})", r"\n#### \2\n", reply
    )  # braces escaped or not
    return _read(reply, state, lambda text: state(text, False, -1))


def words(reply: str) -> str | None:
    """The words listed, in their order, lower case, separated by single blanks: from one line, with or without commas, or
    from lines of one word each, numbered or not. A sentence is no list: where none is announced it gives None."""

    def listed(text):
        block = re.split(
            r"\n\s*\n", re.sub(r"(?:(?<=\s)|^)(?:\d+[.)]|[-*•])\s+", "", text.strip())
        )[0].split("\n")
        block = block if len(block[0].split()) == 1 else block[:1]
        line = re.sub(r",\s*and\s+(?=\S+$)", ", ", " ".join(block).rstrip(". "))
        found = [
            word.strip("'()<>`{}.")
            for word in re.sub(r"[,;|\"“”\[\]]|->|→", " ", line.replace("’", "'")).split()
        ]
        remark = (
            re.search(r"\w\W*\s\(", line)
            or any(" " in line.strip() for line in block[1:])
            or any(re.fullmatch(r"\W+", word) for word in found)
        )
        return None if remark else " ".join(word for word in found if word).lower() or None

    def state(
        rest, says
    ):  # the first sentence, without "the sorted words are: "; no sorted list has "are" after "the" or "words"
        first, *more = re.split(r"(?<=[^\W\d][.?!])[^\S\n]+", rest.strip(), maxsplit=1)
        first = re.sub(
            r"^[^\n(]*:\s+|^[^\n(:]{0,60}?\b(?:the|words|list|order)\b[^\n(:]{0,60}?\b(?:is|are)\s+",
            "",
            first,
        )
        return None if more and len(first.split()) == 1 else listed(first)

    def close(text):
        body = text.rpartition(":")[2]
        return (
            None
            if re.search(r"[^\W\d][.?!]\s|(?m:^)[^A-Z\n]*+[A-Z].*[.?!]$", body)
            else listed(body)
        )

    return _read(reply, state, close)
