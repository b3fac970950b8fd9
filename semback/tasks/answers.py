"""Reading the answer in a model's reply: a letter, a choice of words, a number, brackets, words.

Each reader takes the text of a reply and returns the answer in one canonical form, or None where
no answer is certain. None is counted as unreadable; a wrong answer would go unnoticed. Use them in
a task of your own as ``Task(..., read=answers.number)`` or
``read=partial(answers.choice, words=("Yes", "No"))``.

A reply is read in three stages.

1. *What is read* (`_plain`). Thoughts, further turns of a chat that runs on, Markdown and LaTeX
   are removed; ``\\boxed{18}``, ``<answer>18</answer>`` and ``{"answer": 18}`` become ``#### 18``.
2. *Announcements* (`_read`). The last one that says anything counts; what is retracted after it
   is read anew from there.
3. *Without an announcement* (`_unannounced`) the reply must be the answer, open with it or close
   with a sentence that holds it.

==================================================  =========  ====================================
Reply                                               Read as    Rule
==================================================  =========  ====================================
The answer is (B). · Answer: (B) · #### (B)         (B)        what directly follows counts
Answer: (A) It is not clear who left                (A)        later words do not refute it,
Answer: No, it is not a lie.                        No         whatever they deny
Answer: 18, it is not 20                            18         or mention
The answer is (A) or (B).                           None       two alternatives are no answer
The answer is not (B).                              None       a denial before it counts
The answer is (A). Wait, it is (C).                 (C)        so does a retraction after it
If the answer is (A), he lies.                      None       a supposition, a question, or what
Hint 1 says the answer is (A).                      None       one hint says is no announcement
Both hints agree that the answer is 18.             18         what the hints agree on is
Yes · **Yes** · Yes, they do. · So it is Yes.       Yes        no announcement: all, first or last
It is False because not True is False               False      the conclusion, not the reason
Yes. […] Therefore: no.                             None       first and last contradict each other
The answer is 20. / User: … / The answer is 7.      20         the next turn is not read
<think>The answer is (A)</think> (B)                (B)        nor are thoughts
==================================================  =========  ====================================
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from typing import NamedTuple

UNCLEAR = ""  # an answer is named and taken back, or there are several: no look further back

# Stage 1: what is read ---------------------------------------------------------------------------

THOUGHT_TAG = re.compile(
    r"(?i)(?P<open><think(?:ing)?>|<thought>|\[THINK\]|<\|channel\|>analysis<\|message\|>)"
    r"|</think(?:ing)?>|</thought>|\[/THINK\]|<\|channel\|>final<\|message\|>"
)
LATER_THOUGHT = re.compile(r"(?is)<(think|thinking)>.*?(?:</\1>|\Z)")
TOKEN = re.compile(r"<\|[^|<>\n]*\|>|</s>|<(?:start|end)_of_turn>|\[/?INST\]")
OTHER_TURN = re.compile(  # a line with which a completion runs on as another question or speaker
    r"""(?ix)\n[ \t]*(?: \#*[ \t]*(?:Q|Question|Problem|Human|User|Assistant)[ \t]*[:.]
    | \#+[ \t]*(?:Question|Problem|Instruction|Input|Human|User)[ \t]*:?[ \t]*(?:\n|$) )"""
)
MEMBER = re.compile(r"""(?i)[{,]\s*["'](?:final[ _]?|correct[ _]?)?answer["']\s*:\s*""")
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
        What follows the thoughts, stripped; "" where they never end. Pairs of tags that a text
        mentions further on ("reason between <think> and </think>") are left as they are.
    """
    text = text.strip()
    start, depth, opened, last_closing = 0, 0, False, 0
    for tag in THOUGHT_TAG.finditer(text):
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


def _plain(reply: str) -> str:
    """The words of the reply itself, a boxed, tagged or JSON answer as a line ``#### answer``."""
    text = reply.strip()
    if "<" in text or "[" in text:
        text = LATER_THOUGHT.sub("", without_thoughts(text))
        turns = (turn for turn in TOKEN.split(text) if turn.strip() not in ("", "assistant"))
        text = re.sub(r"<<[^<>\n]*=[^<>\n]*>>", "", next(turns, ""))  # GSM8K's calculations
        text = re.sub(r"(?i)<(?:final_)?answer>\s*", "\n#### ", text)
        text = re.sub(r"(?i)\s*</(?:final_)?answer>", "\n", text)
    text = text.replace("\r\n", "\n").replace("\u00a0", " ")
    if "{" in text:
        text = _without_json(text).replace("{,}", ",")
    if "\\" in text:
        text = re.sub(r"\\(?:text|math)\w*\s*\{([^{}]*)\}", r"\1", text)
        text = BOXED.sub(lambda box: f"\n#### {box[1].strip()}\n", text)
        text = re.sub(r"\\[()\[\],!]", "", text)
        text = re.sub(r"\\([{}$%#&])", r"\1", text)
    if "*" in text or "_" in text or "`" in text:
        text = EMPHASIS.sub("", text)
    return OTHER_TURN.split(text.strip(), maxsplit=1)[0].strip()


def _without_json(text: str) -> str:
    members = list(MEMBER.finditer(text))
    if not members:
        return text
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, members[-1].end())
    except (ValueError, RecursionError):  # as Python writes it, for instance
        value, end = text[members[-1].end() :].partition("}")[0].strip(" '"), len(text)
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return f"{text[: members[-1].start()]}\n#### {value}\n{text[end:].lstrip(', }]')}"


# Stage 2: announcements --------------------------------------------------------------------------

ANNOUNCEMENT = re.compile(
    r"""(?x)
    (?: [Aa]nswer | ANSWER | (?:[Cc]orrect|[Rr]ight|[Bb]est|[Ff]inal)
        \ (?:option|choice|response|result|value|total|one) ) \b (?!\ (?:choices|options))
      (?:\ (?!(?:is|was|not)\b)[\w'’]+){0,6}?["'”]?[ \t]*  # "to the question"
      (?: (?P<verb>\b(?:is|was|(?:would|should|will|must|to)\ be|equals)\b|=)[ \t]*:? | : )
    | \n[^\w\n]*(?i:(?:(?:the|final|correct|my)\ )*answer)[ \t]*(?:(?=[\n(])|[-–—]\ +(?!\d))
    | \#\#\#\#(?!\ *\d+[.)]\ +\w)  # but "#### 2. Compute" is a heading
    | \nA:"""
)
SUPPOSED = re.compile(
    r"(?i)\b(?:if|whether|each|every|any|possible|what|which) (?:(?:that|is|the) )*(?:\w+ )?$"
)
CONDITION = re.compile(r"(?i)\b(?:if|were|had|unless)\b")
SUBJECT = r"(?:the|this|that|it|he|she|they|we|I|my|there|hint|(?-i:[A-Z][a-z]+))\b"
CLAUSE = re.compile(  # where a clause begins, of which a denial before it says nothing
    rf"""(?ix) [;:] | [,—–]\s*(?:(?:and\ )?(?:but|so|thus|therefore|hence)|which\ means)\b
    | \bbut\b | (?:[,—–]|\b(?:and|so|thus|therefore|hence)\b,?)\s+(?={SUBJECT}) | (?<!!)=(?=\W*$)"""
)
DENIED = re.compile(  # words that deny what follows them, or only consider it
    r"""(?ix)\b(?:not|never|none|nothing|nobody|neither|nor|cannot|hardly|unlike|unlikely|without
    | no(?!\ doubt|\ question|[,:]) | far\ from | fail(?:s|ed)?\ to | false\ that | instead\ of
    | (?:rather|other|less|more|fewer|greater)\ than | wrong | incorrect\w* | mistake\w*
    | (?<!no\ )doubt\w* | (?<!at\ )least | (?:might|may|could|some)\ (?:think|say|believe)
    | thought | claims | at\ first | (?:tempting|obvious|common)(?=\s*(?:$|answer|option|choice))
    | rul\w+\ out | (?:eliminat|exclud|reject|discard|contradict|suppos|assum)\w*
    | consider | look\ at | check(?:ing)?(?!\ out) | test(?:ing)? | try(?:ing)? )\b | n['’]t\b"""
)
DENIED_FAR = re.compile(r"(?i)\b(?:not|n['’]t),|\b(?:all|any\w*|every\w*|nothing) (?:but|except)\b")
ONE_HINT = re.compile(
    r"""(?ix)(?<!each\ )(?<!every\ )\bhint[ _#]?\d*(?:['’]s\s*(?:answer|$)
    |\ (?:says|suggests|claims|states|thinks|argues|gives|proposes|concludes|implies)\b)"""
)
AGREED = re.compile(r"(?i)\b(?:both|(?:I|we|which) agree|agrees|confirms?)\b")
TAKEN_BACK = (
    r"(?i)(?:[.!?\n…][\s)\"']*(?:(?:but|no|oh|hmm)[ ,]+)?(?:correction:|on second thought|"
    r"scratch that|I disagree|actually,? (?=(?:no|yes|wait|let|I)\b)|(?:wait|hold on)"
    r"(?=\s*[,.!…—–-]|\s+(?:no|let|that|this|I|it|the|actually)\b))|(?:\.\.\.|…)\s*no\b"
    r"|[,—–]\s*(?:but I disagree|no,? (?:that|this|it)(?: is|['’]s)))"
)
RETRACTION = re.compile(
    rf"{TAKEN_BACK}|[.!?\n]\s*actually\b|(?:[.!?\n—–]\s*|, but )(?:no,? |but )?(?:that|this|it)"
    r"(?: is|['’]s) (?:\w+ )?(?:wrong|incorrect|not\b\W*(?:$|\n|right|correct|so|true))"
)
CHOICE_RETRACTION = re.compile(TAKEN_BACK)  # "That is not true" may be why it is a lie
SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+|\n+")


def _denied(before: str, after: str = "") -> bool:
    """Whether a sentence denies, only considers or ascribes to one hint what it says in between."""
    if DENIED_FAR.search(before):
        return True
    clause = CLAUSE.split(before)[-1]
    if ONE_HINT.search(clause):
        return not AGREED.search(f"{before} {after}")
    return bool(DENIED.search(clause))


def _read(
    text: str,
    stated: Callable[[str, bool], str | None],
    unannounced: Callable[[str], str | None],
    retraction: re.Pattern[str] = RETRACTION,
) -> str | None:
    """Read a plain reply.

    Parameters
    ----------
    text : str
    stated : callable
        (text between this announcement and the next, whether it announces with a verb and not with
        a colon) -> the answer, None where it holds none, or `UNCLEAR`.
    unannounced : callable
        (text without any announcement) -> the same.
    retraction : re.Pattern
        What takes an answer back.
    """
    text = f"\n{text}"
    end, disowned = len(text), False
    for mark in reversed(list(ANNOUNCEMENT.finditer(text))):
        start = mark.start() + mark[0].startswith("\n")
        before = re.split(r"[.!?\n]", text[max(0, start - 200) : start])[-1]
        after = re.split(r"[.!?\n]", text[mark.end() : mark.end() + 200], maxsplit=1)[0]
        conditional = "would" in mark[0] and CONDITION.search(f"{before} {after}")
        if conditional or _denied(before, after):
            disowned = True
        elif not SUPPOSED.search(before):
            answer = stated(text[mark.end() : end], mark["verb"] is not None)
            taken_back = answer is not None and retraction.search(text, mark.end())
            if taken_back:
                return _read(text[taken_back.end() :], stated, unannounced, retraction)
            if answer is not None:
                return answer or None
        end = mark.start()
    return None if disowned else unannounced(text.strip()) or None


# Stage 3: the candidates of a sentence, for letters, choices and numbers -------------------------

FILLER = re.compile(  # what may stand between an announcement and the answer
    r"""(?ix)(?:[\W\d]|\b(?:[a-z]|option|choice|answer|letter|about|approximately|exactly|probably
    |total|of|the|simply|just|definitely|clearly|therefore|thus|so|hence|it|is|think|say|that)\b)*"""
)
JOINED = re.compile(  # what stands between alternatives
    r"(?i)\W*(?:(?:and|or|nor|vs|versus|maybe|perhaps|possibly|also|even|option|as well as)\b\W*)*"
)
REFUTED = re.compile(  # what follows an answer that is denied: "(A) is wrong"
    r"""(?x)[^\w,;:.(]*(?:,?\s+(?:however|though|therefore|clearly|also|then)\b,?)?\s+(?:
    (?:is|are|was|can|could|would|does)(?:\ not|n['’]t)\b | (?:cannot|fails|contradicts?|violates?
    |might|may|could)\b | (?:is|(?:can|could|must)\ be|has\ been)\ (?:\w+\ )?(?:wrong|incorrect
    |false|impossible|ruled\ out|out(?=\W*$)|eliminated|excluded)\b )"""
)
UNSURE = re.compile(
    r"\b(?:[Ee]ither|whether|maybe|perhaps|possibly|unsure|unclear|not sure|[Ii]f"
    r"|(?:might|may|could)(?: \w+)? be)\b|\?"
)
REASON = re.compile(r"(?i)\b(?:because|since|whereas|although|even though|given that)\b")
FIRST_REASON = re.compile(r"(?i)\W*(?:because|since|as|given)\b.*,\s+(?!not\b)")
EQUATES = re.compile(r"\b(?:is|be|equals|gives|yields|(?:\w\w+s|equal) to)\b|→")


class Candidate(NamedTuple):
    """Something in a sentence that may be the answer."""

    start: int
    end: int
    answer: str


@dataclass(frozen=True)
class Kind:
    """What tells letters, choices and numbers apart."""

    find: Callable[[str], list[Candidate]]
    joined: re.Pattern[str] = JOINED
    labels: bool = False  # "(B) the words of the option"
    remarks: bool = False  # "No, they differ."


def _settled(kind: Kind, sentence: str, must_lead: bool = False) -> str | None:
    """The answer that a sentence gives, reasons aside: what it opens with or all that it holds."""
    reason = FIRST_REASON.match(sentence)
    sentence = REASON.split(sentence[reason.end() :] if reason else sentence, maxsplit=1)[0]
    found = kind.find(sentence)
    if not found:
        return None
    equals = sentence.rfind("=")
    if found[-1].start > equals:  # "9 * 2 = 18"
        found = [candidate for candidate in found if candidate.start > equals]
    first, last = found[0], found[-1]
    before = sentence[: first.start]
    leads = FILLER.fullmatch(before) or (not must_lead and before.rstrip(" $").endswith("="))
    rival = next((at for at, other in enumerate(found) if other.answer != first.answer), 0)
    if leads and not REFUTED.match(sentence, first.end):
        between = sentence[found[rival - 1].end : found[rival].start]
        if not rival or not kind.joined.fullmatch(between):
            return first.answer
    if must_lead and not leads:
        return None
    verbs = list(EQUATES.finditer(sentence))
    if rival and len(verbs) == 1 and verbs[0].start() >= found[-2].end:
        around = sentence[verbs[0].end() : last.start] + sentence[last.end :]
        if not re.search(r"\w", around):  # "not ( True ) and ( True ) is False"
            return last.answer
    standing = {
        candidate.answer
        for candidate in found
        if not REFUTED.match(sentence, candidate.end)
        and not _denied(sentence[max(0, candidate.start - 200) : candidate.start])
    }
    if len(standing) > 1:
        return UNCLEAR
    return standing.pop() if standing else None


def _stated(kind: Kind, rest: str, verb: bool) -> str | None:
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
    return _settled(kind, sentence, must_lead=not verb)


def _opening(kind: Kind, line: str, alone: bool = True) -> str | None:
    """The answer that a line consists of, or opens with where the rest is a remark or a label's."""
    found = kind.find(line)
    if not found or line[: found[0].start].strip("( -*•\"'"):
        return None
    after = line[found[0].end :]
    if not re.search(r"\w", after):
        return None if "?" in after else found[0].answer
    remark = kind.remarks and after.lstrip()[0] in ",.;:!—–-("
    if REFUTED.match(after) or not (remark or (kind.labels and alone)):
        return None
    if len(found) > 1 and found[1].answer != found[0].answer:
        if kind.joined.fullmatch(line[found[0].end : found[1].start]):
            return UNCLEAR
    return found[0].answer


def _closing(kind: Kind, lines: list[str]) -> str | None:
    """The answer of the last sentence."""
    opening = _opening(kind, lines[-1])
    if opening and len({_opening(kind, line) for line in lines} - {None}) > 1:
        return UNCLEAR  # the options, listed once more
    sentence = SENTENCE.split(lines[-1])[-1]
    if not kind.find(sentence):
        return opening
    previous = lines[-1].removesuffix(sentence) or "".join(lines[-2:-1])
    if previous.rstrip("\"') ").endswith("?"):
        return UNCLEAR  # "Does the party agree? No" answers another question
    if UNSURE.search(sentence) and not (kind.labels and opening):
        return UNCLEAR
    return _settled(kind, sentence)


def _unannounced(kind: Kind, text: str) -> str | None:
    """The answer that a reply consists of, opens with or closes with."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    opening = _opening(kind, lines[0], alone=len(lines) == 1)
    if opening and len(SENTENCE.split(text)) == 1:
        return opening
    closing = _closing(kind, lines)
    if None in (opening, closing) or opening == closing:
        return opening or closing
    return UNCLEAR


def _by_candidates(kind: Kind, text: str) -> str | None:
    retraction = CHOICE_RETRACTION if kind.remarks else RETRACTION
    return _read(text, partial(_stated, kind), partial(_unannounced, kind), retraction)


LETTER = re.compile(
    r"""(?x) \(([A-Ra-r])\) | ^\W*([a-r])(?=\)?\W*$)
    | (?:^\W*|\b(?:is|be|[Oo]ption|[Cc]hoice|[Aa]nswer|choose|pick|select)\s+)
      (?:[Oo]ption\ |[Cc]hoice\ )?
      ([A-R])(?=\W*$|[).:;]|,(?!\s*(?:and\ |or\ )?[A-R]\b)|\s*[-–—(]|\s+\d|(?<![AI])\s+[A-Z]
        |\s+(?:because|since|as|is\ (?:the\ )?(?:correct|right|best))\b)"""
)


@cache
def _letters(texts: tuple[str, ...]) -> Kind:
    def find(text: str) -> list[Candidate]:
        whole = text.strip(" .\"'").casefold()
        for answer in texts:
            if whole == answer.casefold():
                return [Candidate(0, len(text), answer)]
        found = LETTER.finditer(text)
        return [Candidate(*at.span(), f"({at[at.lastindex or 0].upper()})") for at in found]

    return Kind(find, labels=True)


def letter(reply: str, texts: tuple[str, ...] = ()) -> str | None:
    """Read the option that a reply chooses.

    Parameters
    ----------
    reply : str
    texts : tuple of str
        Answers that are no letter, for questions whose options are cut: read word for word.

    Returns
    -------
    str or None
        ``"(B)"``, from A to R, or one of `texts`. A letter without parentheses counts where it can
        be no word: "Answer: B", "B. rain", "option B is correct", not "A Bug's Life".
    """
    return _by_candidates(_letters(tuple(texts)), _plain(reply))


@cache
def _choices(words: tuple[str, ...]) -> Kind:
    aside = r"(?=\s*(?:$|[^\w\s]|(?:because|since|as|and|or|but|it|they|he|she|this|that|the)\b))"
    alternatives = []
    for word in words:
        follows = aside if word.lower() in ("yes", "no") else ""  # "no way" does not say no
        alternatives.append(rf"(?<![\w'’-])({re.escape(word)})(?![\w'’-]){follows}")
    pattern = re.compile("|".join(alternatives), re.IGNORECASE)

    def find(text: str) -> list[Candidate]:
        found = pattern.finditer(text)
        return [Candidate(*at.span(), words[(at.lastindex or 0) - 1]) for at in found]

    return Kind(find, remarks=True)


def choice(reply: str, words: tuple[str, ...]) -> str | None:
    """Read which of some words a reply says, in any case.

    Parameters
    ----------
    reply : str
    words : tuple of str
        For instance ``("valid", "invalid")``.

    Returns
    -------
    str or None
        One of `words`, as it is written there.
    """
    return _by_candidates(_choices(tuple(words)), _plain(reply))


NUMBER = re.compile(  # but no date, time, fraction, power, ordinal, list, "2 million" or "hint 2"
    r"""(?x)(?<![\w.])(?<!\d[/:^,])(?<!sqrt\{)(?<![Hh]int\ )(?<![Ss]tep\ )
    (?P<word>(?:minus|negative)\s+)?(?P<sign>-?)[$€£¥]?(?P<inner>-?)
    (?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?! [\d²³¹⁰⁴-⁹⁻] | [.,/:^_]\d | (?:st|nd|rd|th|k|K|M|[eE]\d+)\b | \s*[¼-¾⅐-⅞]
      | \s+(?:and\s+)?\d+/\d | \s+and\s+(?:an?|one|two|three)[ -](?:half|thirds?|quarters?)\b
      | \s*(?:[x×*]\s*10\s*\^|\\(?:pi|times|cdot)\b)
      | \s*(?:hundred|thousand|million|billion|trillion|dozen)\b )"""
)
NUMBERS_JOINED = re.compile(  # "or", "to", "and", or only a unit: "5 feet 6 inches"
    r"""(?x)[^\w(;:=]*(?:(?!(?:and|or|to|for|in|per|every|each|of|from|at|over|after|with|when|is
    |are|not|rather|than|instead|as|which|where)\b)[^\W\d]+\W+){0,2}(?:(?:and|or|to)\W+)?"""
)
MINUS = str.maketrans(dict.fromkeys("‐‑‒–−﹣－", "-"))
MINUS_APART = re.compile(r"((?:\b(?:is|be)|[:=(]|####)[ \t]*\$?[ \t]*)-[ \t]+(?=[$€£¥]?[\d.])")
LIST_NUMBER = re.compile(r"(?:^|\n)[ \t]*\d+[.)][ \t]+(?=[A-Za-z])")


def _numbers(text: str) -> list[Candidate]:
    aside = re.search(r"(?<=[\w.%])\s+\(|;", text)
    if aside and NUMBER.search(text[: aside.start()]):
        text = text[: aside.start()]
    found = []
    for at in NUMBER.finditer(text):
        if text[: at.start()].strip() in ("-", "—"):
            continue  # a sign, or the dash of a list?
        whole, _, part = at["digits"].replace(",", "").partition(".")
        value = f"{whole.lstrip('0') or '0'}.{part}".rstrip("0").rstrip(".")
        if value != "0" and (at["word"] or at["sign"] or at["inner"]):
            value = f"-{value}"
        found.append(Candidate(*at.span(), value))
    return found


NUMBERS = Kind(_numbers, NUMBERS_JOINED)


def number(reply: str) -> str | None:
    """Read a number, without commas, currency, unit or trailing zeros.

    Parameters
    ----------
    reply : str

    Returns
    -------
    str or None
        ``"1234"`` for "$1,234.00", ``"18.5"`` for "18.50", ``"-7"`` for "− 7". None for what is not
        one plain number: dates, times, fractions, powers, ranges, "2 million", "5 feet 6".
    """
    text = LIST_NUMBER.sub("", _plain(reply.translate(MINUS)))
    return _by_candidates(NUMBERS, MINUS_APART.sub(r"\1-", text))


# Brackets and words ------------------------------------------------------------------------------

QUOTES = "\"',“”‘’"
BRACKETS = re.compile(rf"[^\w\[\]{{}}<>()]*((?:(?:[\[\]{{}}<>)]|\((?!\w))[\s{QUOTES}]*+)+)(\W*$)?")


def _bracket_row(line: str, whole: bool = True) -> str | None:
    """The brackets that a line consists of, or begins with before words; UNCLEAR if some open."""
    row = BRACKETS.match(line)
    if row is None or (
        row[2] is None and (whole or not re.match(r"[.,;:]\s|\w", line[row.end() :]))
    ):
        return None
    if set(row[1]) & set("[({<"):
        return UNCLEAR
    return " ".join(re.sub(rf"[\s{QUOTES}]", "", row[1]))


def _bracket_rows(lines: Iterable[str]) -> list[str]:
    return list(takewhile(bool, (_bracket_row(line) or "" for line in lines if line.strip())))


def _completion(rows: list[str]) -> str | None:
    """One row of brackets, or several rows of one bracket each."""
    if len(rows) > 1 and max(map(len, rows)) > 1:
        return UNCLEAR
    return " ".join(rows) or None


def brackets(reply: str) -> str | None:
    """Read the closing brackets that complete a sequence.

    Parameters
    ----------
    reply : str

    Returns
    -------
    str or None
        For instance ``"] } >"``, separated by single blanks. None where the reply repeats what
        was there already, so that some brackets open, or where its last line holds more.
    """
    if not re.search(r"\\[\[(]", reply):  # else it is LaTeX, not Markdown that escapes them
        reply = re.sub(r"\\([\])>])", r"\1", reply)
    reply = re.sub(  # in a box, braces may be escaped or not
        r"\\boxed\s*\{(\\(?:text|math)\w*\s*\{)?([^\w\n]*)\}(?(1)\s*\})", r"\n#### \2\n", reply
    )

    def stated(rest: str, verb: bool) -> str | None:
        lines = rest.strip().split("\n")
        rows = _bracket_rows(lines)
        return _completion(rows) if rows else _bracket_row(lines[0], whole=False)

    def unannounced(text: str) -> str | None:
        return _completion(_bracket_rows(reversed(text.split("\n")))[::-1])

    return _read(_plain(reply), stated, unannounced)


def _word_list(text: str) -> str | None:
    """The words of one line, or of lines of one word each; None where there is more than a list."""
    text = re.sub(r"(?:(?<=\s)|^)(?:\d+[.)]|[-*•])\s+", "", text.strip())
    lines = re.split(r"\n\s*\n", text)[0].split("\n")
    if " " in lines[0].strip():
        lines = lines[:1]
    line = re.sub(r",\s*and\s+(?=\S+$)", ", ", " ".join(lines).rstrip(". "))
    found = re.sub(r"[,;|\"“”\[\]]|->|→", " ", line.replace("’", "'")).split()
    several = any(" " in line.strip() for line in lines[1:])
    if (
        several
        or re.search(r"\w\W*\s\(", line)
        or any(re.fullmatch(r"\W+", word) for word in found)
    ):
        return None
    words = (word.strip("'()<>`{}.") for word in found)
    return " ".join(word for word in words if word).lower() or None


def words(reply: str) -> str | None:
    """Read a list of words, in its order.

    Parameters
    ----------
    reply : str

    Returns
    -------
    str or None
        The words in lower case, separated by single blanks: from one line, with or without commas,
        or from lines of one word each, numbered or not. A sentence is no list.
    """

    def stated(rest: str, verb: bool) -> str | None:
        first, *more = re.split(r"(?<=[^\W\d][.?!])[^\S\n]+", rest.strip(), maxsplit=1)
        if more and " " not in first.strip():
            return None
        # "the sorted words are: "; no sorted list has "are" after "the" or "words"
        lead = (
            r"^[^\n(]*:\s+|^[^\n(:]{0,60}?\b(?:the|words|list|order)\b[^\n(:]{0,60}?\b(?:is|are)\s+"
        )
        return _word_list(re.sub(lead, "", first))

    def unannounced(text: str) -> str | None:
        body = text.rpartition(":")[2]
        sentence = re.search(r"[^\W\d][.?!]\s|(?m:^)[^A-Z\n]*+[A-Z].*[.?!]$", body)
        return None if sentence else _word_list(body)

    return _read(_plain(reply), stated, unannounced)
