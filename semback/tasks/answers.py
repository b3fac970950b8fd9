"""Reading the answer in the text of a model's reply.

Each reader takes a reply and returns the answer in one canonical form, or None where none is certain. A missed answer is
counted as unreadable and can be requested again; a wrong one would stay in the results unseen. So in doubt there is none.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import NamedTuple

UNCLEAR = ""  # what a statement gives that names an answer and takes it back, or names several

# --- Stage 1: what of a reply is read ---

THOUGHT_TAG = re.compile(
    r"(?P<open><think(?:ing)?>|<thoughts?>|\[THINK\]|<\|channel\|>analysis<\|message\|>)"
    r"|</think(?:ing)?>|</thoughts?>|\[/THINK\]|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
LATER_THOUGHT = re.compile(r"(?is)<(think|thinking)>.*?(?:</\1>|\Z)")
TOKEN = re.compile(r"<\|[^|<>\n]*\|>|</s>|<(?:start|end)_of_turn>|\[/?INST\]")
OTHER_TURN = re.compile(  # a line with which a completion runs on as another question or speaker
    r"""(?i)\n[ \t]*
        (?: \#*[ \t]*(?:Q|Question|Problem|Human|User|Assistant)[ \t]*[:.]
          | \#+[ \t]*(?:Question|Problem|Instruction|Input|Human|User)[ \t]*:?[ \t]*(?:\n|$) )""",
    re.VERBOSE,
)
JSON = re.compile(  # a member "answer": a text, a list of texts, a number, or a text as Python writes it
    r"""(?i)[{,]\s*+["'](?:final[ _]?|correct[ _]?)?answer["']\s*:\s*+
        (TEXT|\[\s*TEXT(?:\s*,\s*TEXT)*+\s*\]|'[^'\n]*'|[-\w.]++)\s*(?:,|\}[\s}\]]*)""".replace(
        "TEXT", r'"(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-f]{4})*+"'
    ),
    re.VERBOSE,
)
BOXED = re.compile(r"\\boxed\s*\{((?:\\.|\{[^{}]*\}|[^{}\\])*)\}", re.DOTALL)
EMPHASIS = re.compile(r"\*\*|__|`|\*(?<![\w*]\*)(?=\S)|\*(?<=[^\s*]\*)(?!\w)")


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
        What follows the thoughts, stripped; "" where they never end. Tags that a text mentions
        further on, in pairs, are left as they are.
    """
    start, depth, opened, last = 0, 0, _opens_with_thought(text, 0), None
    for tag in THOUGHT_TAG.finditer(text):
        if tag["open"]:
            depth += 1
            continue
        depth -= 1
        last = tag.end()
        if depth < 0 or (depth == 0 and opened):
            start, depth, last = tag.end(), 0, None
            opened = _opens_with_thought(text, start)
    if opened:  # a thought that never ends, or that mentions an opening tag
        start = len(text) if last is None else last
    return text[start:].strip()


def _opens_with_thought(text: str, start: int) -> bool:
    while start < len(text) and text[start].isspace():
        start += 1
    tag = THOUGHT_TAG.match(text, start)
    return tag is not None and tag["open"] is not None


def _plain(reply: str) -> str:
    """The words of the reply itself: no thoughts, later turns, Markdown or LaTeX.

    An answer in a box, in a tag or in JSON becomes a line ``#### answer``.
    """
    text = without_thoughts(reply).replace("\r\n", "\n").replace("\u00a0", " ")
    if "<" in text or "[" in text:
        text = LATER_THOUGHT.sub("", text)
        turns = (turn for turn in TOKEN.split(text) if turn.strip() not in ("", "assistant"))
        text = re.sub(r"<<[^<>\n]*=[^<>\n]*>>", "", next(turns, ""))  # GSM8K's calculations
        text = re.sub(r"(?i)<(?:final_)?answer>\s*", "\n#### ", text)
        text = re.sub(r"(?i)\s*</(?:final_)?answer>", "\n", text)
    if "{" in text:
        text = JSON.sub(_json_answer, text).replace("{,}", ",")
    if "\\" in text:
        text = re.sub(r"\\(?:text|math)\w*\s*\{([^{}]*)\}", r"\1", text)
        text = BOXED.sub(lambda box: f"\n#### {box[1].strip()}\n", text)
        text = re.sub(r"\\[()\[\],!]", "", text)
        text = re.sub(r"\\([{}$%#&])", r"\1", text)
    if "*" in text or "_" in text or "`" in text:
        text = EMPHASIS.sub("", text)
    return OTHER_TURN.split(text.strip(), maxsplit=1)[0].strip()


def _json_answer(member: re.Match) -> str:
    value = member[1]
    value = json.loads(value, strict=False) if value[0] in '["' else value.strip("'")
    if isinstance(value, list):
        value = ", ".join(value)
    return f"\n\n#### {value}\n\n"


# --- Stage 2: what a reply announces ---

ANNOUNCEMENT = re.compile(
    r"""
    (?: [Aa]nswer|ANSWER | (?:[Cc]orrect|[Rr]ight|[Bb]est|[Ff]inal)\ (?:option|choice|response|result|value|total|one) )
        \b(?!\ (?:choices|options))
        (?:\ (?!(?:is|was|not)\b)[\w'’]+){0,6}?["'”]?[ \t]*   # "to the question"
        (?: (?P<verb>\b(?:is|was|(?:would|should|will|must|to)\ be|equals)\b|=)[ \t]*:? | : )
  | \n[^\w\n]*(?i:(?:(?:the|final|correct|my)\ )*answer)[ \t]*(?:(?=\n)|[-–—][ ]+(?!\d)|(?=\())
  | \#\#\#\#(?!\ *\d+[.)]\ +\w)   # but "#### 2. Compute" is a heading
  | \nA:
    """,
    re.VERBOSE,
)

SUBJECT = r"(?:the|this|that|it|he|she|they|we|I|my|there|hint|(?-i:[A-Z][a-z]+))\b"
CLAUSE = re.compile(  # where a clause begins, of which a denial before it says nothing
    rf"""[;:] | [,—–]\s*(?:(?:and\ )?(?:but|so|thus|therefore|hence)|which\ means)\b | \bbut\b
      | \b(?:and|so|thus|therefore|hence)\b,?\s+(?={SUBJECT}) | [,—–]\s+(?={SUBJECT})
      | (?<!!)=(?=\W*$)""",
    re.IGNORECASE | re.VERBOSE,
)
DENIED = re.compile(  # words that deny, only consider, or ascribe to others what follows them
    r"""\b(?:not|never|none|nothing|nobody|neither|nor|cannot|hardly|unlike|unlikely|without
      | no(?!\ doubt|\ question|[,:])|far\ from|fail(?:s|ed)?\ to|false\ that
      | (?:rather|other|less|more|fewer|greater)\ than|instead\ of
      | wrong|incorrect\w*|mistake\w*|(?<!no\ )doubt\w*|(?<!at\ )least
      | (?:tempting|obvious|common|plausible)(?=\s*(?:$|answer|option|choice))
      | (?:might|may|could|some)\ (?:think|say|believe)|thought|claims|at\ first
      | (?:rul\w+\ out|eliminat\w+|exclud\w+|reject\w*|discard\w*|contradict\w*)
      | (?:consider|look\ at|check(?:ing)?(?!\ out)|test(?:ing)?|try(?:ing)?|suppos\w+|assum\w+)
      )\b | n['’]t\b""",
    re.IGNORECASE | re.VERBOSE,
)
DENIED_FAR = re.compile(r"(?i)\b(?:not|n['’]t),|\b(?:all|any\w*|every\w*|nothing) (?:but|except)\b")
SUPPOSED = re.compile(
    r"(?i)\b(?:if|whether|each|every|any|possible|what|which) (?:(?:that|is|the) )*(?:\w+ )?$"
)
CONDITION = re.compile(r"(?i)\b(?:if|were|had|unless)\b")
ONE_HINT = re.compile(  # what one hint says is not yet what the reply says
    r"""(?i)(?<!each\ )(?<!every\ )\bhint[ _#]?\d*(?:['’]s\s*(?:answer|$)
      |\ (?:\w+ly\ )?(?:says|suggests|claims|states|thinks|argues|gives|proposes|concludes|implies))""",
    re.VERBOSE,
)
AGREED = re.compile(r"(?i)\b(?:both|(?:I|we|which) agree|agrees?|confirms?|correctly|rightly)\b")
TAKEN_BACK = (
    r"(?:[.!?\n…]|\.\.\.)[\s)\"']*(?:(?:but|no|oh|hmm)[ ,]+)?"
    r"(?:(?:wait|hold on)\b(?=\s*[,.!…—–-]|\s+(?:no|let|that|this|I|it|the|actually)\b)|correction:|on second thought\b|scratch that\b"
    r"|I disagree\b|actually,? (?=(?:no|yes|wait|let|I)\b))"
    r"|(?:\.\.\.|…)\s*no\b|[,—–]\s*(?:but I disagree\b|no,? (?:that|this|it)(?: is|['’]s) )"
)
RETRACTION = re.compile(
    rf"(?i){TAKEN_BACK}|[.!?\n]\s*actually\b|(?:[.!?\n—–]\s*|, but )(?:no,? |but )?"
    r"(?:that|this|it)(?: is|['’]s) (?:\w+ )?(?:wrong|incorrect|not\b\W*(?:$|\n|right|correct|so|true))"
)
CHOICE_RETRACTION = re.compile(f"(?i){TAKEN_BACK}")  # "That is not true" may be why it is a lie
SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+|\n+")


def _denied(before: str, after: str = "") -> bool:
    """Whether a sentence denies, only considers or ascribes to a hint what stands in its middle."""
    if DENIED_FAR.search(before):
        return True
    if not DENIED.search(before) and "int" not in before:
        return False
    clause = CLAUSE.split(before)[-1]
    ascribed = ONE_HINT.search(clause) and not AGREED.search(f"{before} {after}")
    return bool(ascribed or DENIED.search(clause))


def _around(text: str, mark: re.Match[str]) -> tuple[str, str]:
    """What stands before and after an announcement in its sentence."""
    start = mark.start() + mark[0].startswith("\n")
    before = re.split(r"[.!?\n]", text[max(0, start - 200) : start])[-1]
    after = re.split(r"[.!?\n]", text[mark.end() : mark.end() + 200], maxsplit=1)[0]
    return before, after


def _read(
    text: str,
    stated: Callable[[str, bool], str | None],
    unannounced: Callable[[str], str | None],
    retraction: re.Pattern[str] = RETRACTION,
) -> str | None:
    """Read a plain reply with a reader of what an announcement states, and one of a reply without any.

    Both return an answer, None where there is none, or `UNCLEAR`. `stated` takes the text from the
    announcement to the next one, and whether it announces with a verb ("is") or a colon.
    """
    text = f"\n{text}"
    end, disowned = len(text), False
    for mark in reversed(list(ANNOUNCEMENT.finditer(text))):
        before, after = _around(text, mark)
        conditional = "would" in mark[0] and CONDITION.search(f"{before} {after}")
        if _denied(before, after) or conditional:
            disowned = True
        elif not SUPPOSED.search(before):
            answer = stated(text[mark.end() : end], mark["verb"] is not None)
            if answer is not None:
                taken_back = retraction.search(text, mark.end())
                if taken_back:
                    return _read(text[taken_back.end() :], stated, unannounced, retraction)
                return answer or None
        end = mark.start()
    return None if disowned else unannounced(text.strip()) or None


# --- Stage 3: the candidates in a sentence, for letters, choices and numbers ---

FILLER = re.compile(
    r"(?:\W|\b(?:option|choice|answer|letter|about|approximately|exactly|probably|a|total|of|the|simply|just|definitely|clearly|"
    r"therefore|thus|so|hence|x|it|is|s|i|think|say|that)\b)*",
    re.IGNORECASE,
)
JOINED = re.compile(
    r"\W*(?:(?:and|or|nor|vs|versus|maybe|perhaps|possibly|also|even|either|option|choice|as well as)\b\W*)*",
    re.IGNORECASE,
)
REFUTED = re.compile(  # what may follow an answer that is denied: "(A) is wrong"
    r"""[^\w,;:.(]*(?:,?\s+(?:however|though|therefore|clearly|also|then|alone)\b,?)?\s+(?:
        (?:is|are|was|can|could|would|does)(?:\ not|n['’]t)\b
      | (?:cannot|fails|contradicts?|violates?|might|may|could)\b
      | (?:is|(?:can|could|must)\ be|has\ been)\ (?:\w+\ )?
        (?:wrong|incorrect|false|impossible|ruled\ out|out(?=\W*$)|eliminated|excluded)\b )""",
    re.VERBOSE,
)
UNSURE = re.compile(
    r"\b(?:either|whether|maybe|perhaps|possibly|unsure|unclear|not sure|(?:might|may|could) be|[Ii]f)\b"
)
HEDGED = re.compile(r"\b(?:[Ii]f|maybe|perhaps|possibly|unsure|unclear|not sure)\b|\?")
REASON = re.compile(r"(?i)(?:^|[\s,(])(?:because|since|whereas|although|even though)\b")
FIRST_REASON = re.compile(r"(?i)\W*(?:because|since|as|given)\b.*,\s+(?!not\b)")
EQUATES = re.compile(r"\b(?:is|be|equals|gives|yields|(?:\w\w+s|equal) to)\b|→")


MATHS = re.compile(r"(?:[^A-Za-z]|\b[A-Za-z]\b)*")


class Candidate(NamedTuple):
    start: int
    end: int
    answer: str


@dataclass(frozen=True)
class Kind:
    """What tells letters, choices and numbers apart.

    `find` gives the candidates of a sentence; `joined` matches all that stands between two of them
    that are alternatives; `words_follow` says what may follow on a line that opens with one.
    """

    find: Callable[[str], list[Candidate]]
    joined: re.Pattern[str] = JOINED
    labels: bool = False  # "(B) the words of the option"
    remarks: bool = False  # "No, they differ."
    retraction: re.Pattern[str] = RETRACTION


def _settled(sentence: str, kind: Kind, must_lead: bool = False) -> str | None:
    """The answer of one sentence: the only candidate, or the first where the others are no rivals."""
    opening = FIRST_REASON.match(sentence)
    if opening:
        sentence = sentence[opening.end() :]
    reason = REASON.search(sentence)
    if reason:
        sentence = sentence[: reason.start()]
    found = kind.find(sentence)
    if not found:
        return None
    equals = sentence.rfind("=")
    if found[-1].start > equals:
        found = [candidate for candidate in found if candidate.start > equals]
    first = found[0]
    before, after = sentence[: first.start], sentence[first.end :]
    leads = bool(FILLER.fullmatch(before))
    if before.rstrip(" $").endswith("="):
        leads = not must_lead or bool(MATHS.fullmatch(before))
    rivals = [at for at, candidate in enumerate(found) if candidate.answer != first.answer]
    if leads and not REFUTED.match(after):
        if not rivals:
            return first.answer
        between = sentence[found[rivals[0] - 1].end : found[rivals[0]].start]
        if not kind.joined.fullmatch(between):
            return first.answer
    if must_lead and not leads and not rivals:
        return None
    if rivals:
        result = found[-1]
        verbs = EQUATES.findall(sentence)
        between = sentence[found[-2].end : result.start]
        if len(verbs) == 1 and re.search(rf"(?:{EQUATES.pattern})\W*$", between) and not re.search(r"\w", sentence[result.end :]):
            return result.answer
    standing = [c for c in found if not _denied(sentence[max(0, c.start - 200) : c.start]) and not REFUTED.match(sentence, c.end)]
    answers = {candidate.answer for candidate in standing}
    if not standing:
        return None
    return standing[0].answer if len(answers) == 1 else UNCLEAR


def _stated(rest: str, verb: bool, kind: Kind) -> str | None:
    """The answer of the sentence that follows an announcement."""
    sentence = SENTENCE.split(rest.strip(), maxsplit=1)[0]
    found = kind.find(sentence)
    if not found:
        return None
    labelled = kind.labels and re.match(r"\W+\w", sentence[found[0].end :])
    if sentence.endswith("?") and not labelled:
        return None
    if UNSURE.search(sentence[: found[0].start]):
        return UNCLEAR
    return _settled(sentence, kind, must_lead=not verb)


def _opening(line: str, kind: Kind, alone: bool) -> str | None:
    """The answer that a line opens with, where what follows are not words that might deny it."""
    found = kind.find(line)
    if not found or line[: found[0].start].strip("( -*•\"'"):
        return None
    first = found[0]
    after = line[first.end :]
    if "?" in after[:3]:
        return None
    if not re.search(r"\w", after):
        return first.answer
    remark = kind.remarks and after.lstrip()[0] in ",.;:!—–-("
    label = kind.labels and alone
    if not remark and not label or REFUTED.match(after):
        return None
    if len(found) > 1 and found[1].answer != first.answer and kind.joined.fullmatch(line[first.end : found[1].start]):
        return UNCLEAR
    return first.answer


def _closing(lines: list[str], kind: Kind) -> str | None:
    """The answer of the last sentence."""
    line = lines[-1]
    sentence = SENTENCE.split(line)[-1]
    found = kind.find(sentence)
    opens = _opening(line, kind, alone=True)
    if not found:
        return opens
    if opens and len({_opening(other, kind, alone=True) for other in lines} - {None}) > 1:
        return UNCLEAR  # the options, listed once more
    previous = line.removesuffix(sentence) or (lines[-2] if len(lines) > 1 else "")
    if previous.rstrip("\"') ").endswith("?"):
        return UNCLEAR  # "Does the party agree? No" answers another question
    labelled = kind.labels and opens
    if UNSURE.search(sentence[: found[0].start]) or HEDGED.search(sentence) and not labelled:
        return UNCLEAR
    return _settled(sentence, kind)


def _unannounced(text: str, kind: Kind) -> str | None:
    """The answer that a reply consists of, opens with or closes with."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    opening = _opening(lines[0], kind, alone=len(lines) == 1)
    if opening and len(SENTENCE.split(text)) == 1:
        return opening
    closing = _closing(lines, kind)
    if opening is None or closing is None or opening == closing:
        return opening or closing
    return UNCLEAR


def _by_candidates(text: str, kind: Kind) -> str | None:
    return _read(
        text,
        lambda rest, verb: _stated(rest, verb, kind),
        lambda text: _unannounced(text, kind),
        kind.retraction,
    )


LETTER = re.compile(
    r"""\(([A-Ra-r])\) | ^\W*([a-r])(?=\)?\W*$)
      | (?:^\W*|\b(?:is|be|[Oo]ption|[Cc]hoice|[Aa]nswer|[Cc]hoose|[Pp]ick|[Ss]elect)\s+)(?:[Oo]ption\ |[Cc]hoice\ )?
        ([A-R])(?=\W*$|[).:;]|,(?!\s*(?:and\ |or\ )?[A-R]\b)|\s*[-–—(]\s?
          |\s+(?:because|since|as|is\ (?:the\ )?(?:correct|right|best))\b|\s+\d|(?<![AI])\s+[A-Z])""",
    re.VERBOSE,
)


@cache
def _letters(texts: tuple[str, ...]) -> Kind:
    def find(text: str) -> list[Candidate]:
        whole = text.strip(" .\"'").casefold()
        for answer in texts:
            if whole == answer.casefold():
                return [Candidate(0, len(text), answer)]
        return [
            Candidate(m.start(), m.end(), f"({m[m.lastindex].upper()})")
            for m in LETTER.finditer(text)
        ]

    return Kind(find, labels=True)


def letter(reply: str, texts: tuple[str, ...] = ()) -> str | None:
    """Read the option chosen."""
    return _by_candidates(_plain(reply), _letters(texts))


@cache
def _choices(words: tuple[str, ...]) -> Kind:
    aside = (
        r"(?=\s*(?:$|[^\w\s]|(?:because|since|as|and|or|but|it|they|he|she|this|that|the|we)\b))"
    )
    alone = (
        rf"(?<![\w'’-])({re.escape(word)})(?![\w'’-]){aside if word.lower() in ('yes', 'no') else ''}"
        for word in words
    )
    pattern = re.compile("|".join(alone), re.IGNORECASE)

    def find(text: str) -> list[Candidate]:
        return [
            Candidate(m.start(), m.end(), words[m.lastindex - 1]) for m in pattern.finditer(text)
        ]

    return Kind(find, remarks=True, retraction=CHOICE_RETRACTION)


def choice(reply: str, words: tuple[str, ...]) -> str | None:
    """Read which of some words."""
    return _by_candidates(_plain(reply), _choices(words))


NUMBER = re.compile(
    r"""(?<![\w.])(?<!\d[/:^,])(?<!sqrt\{)(?<![Hh]int\ )(?<![Ss]tep\ )
    (?P<word>(?:minus|negative)\s+)? (?P<sign>-?)[$€£¥]?(?P<sign2>-?)
    (?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?! [\d²³¹⁰⁴-⁹⁻] | [.,/:^_]\d | (?:st|nd|rd|th|k|K|M|[eE]\d+)\b
      | \s*[¼-¾⅐-⅞] | \s+(?:and\s+)?\d+/\d
      | \s+and\s+(?:an?|one|two|three)[ -](?:half|thirds?|quarters?)\b
      | \s*(?:[x×*]\s*10\s*\^|\\(?:pi|times|cdot)\b)
      | \s*(?:hundred|thousand|million|billion|trillion|dozen)\b )""",
    re.VERBOSE,
)
NUMBERS_JOINED = re.compile(
    r"""[^\w(;:=]*(?:(?!(?:and|or|to|for|in|per|every|each|of|from|at|over|after|with|when|is|are|not|rather|than|instead|as|which|where)\b)[^\W\d]+\W+){0,2}
        (?:(?:and|or|to)\W+)?""",
    re.VERBOSE,
)
LIST_NUMBER = re.compile(r"(?:^|\n)[ \t]*\d+[.)][ \t]+(?=[A-Za-z])")
MINUS = str.maketrans(dict.fromkeys("‐‑‒–−﹣－", "-"))
MINUS_APART = re.compile(r"((?:\bis|\bbe|[:=(]|####)[ \t]*\$?[ \t]*)-[ \t]+(?=[$€£¥]?[\d.])")


def _numbers(text: str) -> list[Candidate]:
    aside = re.search(r"(?<=[\w.%])\s+\(|;", text)
    if aside and NUMBER.search(text[: aside.start()]):
        text = text[: aside.start()]
    found = []
    for number in NUMBER.finditer(text):
        if text[: number.start()].strip() in ("-", "—"):
            continue  # an item of a list, or a sign
        whole, _, part = number["digits"].replace(",", "").partition(".")
        value = f"{whole.lstrip('0') or '0'}.{part}".rstrip("0").rstrip(".")
        negative = number["word"] or number["sign"] or number["sign2"]
        found.append(Candidate(number.start(), number.end(), f"-{value}" if negative and value != "0" else value))
    return found


NUMBER_KIND = Kind(_numbers, NUMBERS_JOINED)


def number(reply: str) -> str | None:
    """Read a number."""
    text = LIST_NUMBER.sub("", _plain(reply.translate(MINUS)))
    text = MINUS_APART.sub(r"\1-", text)
    return _by_candidates(text, NUMBER_KIND)
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
    return _read(_plain(reply), state, lambda text: state(text, False, -1))


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

    return _read(_plain(reply), state, close)

