"""Reading the answer in a model's reply: a letter, a choice of words, a number, brackets, words.

Each reader takes the text of a reply and returns the answer in one canonical form, or None where
no answer is certain. None is counted as unreadable; a wrong answer would go unnoticed.

- `number`: ``"18"`` for "$18.00". In a task of your own: ``Task(..., read=answers.number)``.
- `letter`: ``"(B)"``, the option that is chosen.
- `choice`: one of your words, for instance of yes and no:
  ``Task(..., read=partial(answers.choice, words=("Yes", "No")))``.
- `words`: a list of words, in its order; `brackets`: a row of closing brackets.

A reply is read in three stages.

1. *What is read* (`_plain`). Thoughts, further turns of a chat that runs on, Markdown and LaTeX
   are removed; ``\\boxed{18}``, ``<answer>18</answer>`` and ``{"answer": 18}`` become ``#### 18``.
2. *Announcements* (`_read`). The last one that says anything counts; if it is retracted, reading
   starts again after the retraction.
3. *Without an announcement* (`_unannounced`) the reply must be the answer, open with it, or close
   with a sentence that holds it.

==================================================== ======== ====================================
Reply                                                Read as  Rule
==================================================== ======== ====================================
The answer is (B). · Answer: (B) · #### (B)          (B)      what directly follows counts
Answer: (A) It is not clear who left                 (A)      later words do not refute it,
Answer: No, it is not a lie.                         No       whatever they deny
Answer: 18, it is not 20                             18       or mention
The answer is (A) or (B).                            None     two alternatives are no answer
The answer is not (B).                               None     a denial before it counts
The answer is (A). Wait, it is (C).                  (C)      so does a retraction after it
If the answer is (A), he lies.                       None     a supposition, a question, or what
Hint 1 says the answer is (A).                       None     one hint says is no announcement
Both hints agree that the answer is 18.              18       what the hints agree on is,
The hints say the answer is 18, but they are wrong.  None     unless a "but" follows
Yes · **Yes** · Yes, they do. · So it is Yes.        Yes      no announcement: all, first or last
It is False because not True is False                False    the conclusion, not the reason
It is False. After all, not False is True.           None     the reason may come last
Yes. […] Therefore: no.                              None     first and last contradict each other
The answer is 20. / User: … / The answer is 7.       20       the next turn is not read, nor what
The answer is 20.<|im_end|>The answer is 7.          20       follows a mark of a chat template
\\boxed{7} or \\boxed{8}                               None     two boxes are alternatives
− 42 · Answer: - $42 · \\boxed{-{42}}                 -42      every minus sign, also set apart
<think>The answer is (A)</think> (B)                 (B)      thoughts are not read
==================================================== ======== ====================================
"""

import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from ..replies import without_thoughts

__all__ = ["brackets", "choice", "letter", "number", "words"]

Reading = Callable[..., str | None]
UNCLEAR = ""  # an answer is named and taken back, or there are several: look no further back

# Stage 1: what is read ---------------------------------------------------------------------------

# The marks of chat templates, where a server shows them: <|im_end|>, </s>, [INST] and the like.
MARK = r"(?:<[|｜][^|｜<>\n]*[|｜]>|\[[/|]?(?:INST|\w+\|)\]|</?s>|<(?:start|end)_of_turn>|<[be]os>)"
CLEANING = (  # in this order, where the first text occurs: a pattern and what replaces it
    ("<", r"(?is)<((?:think|thought|reason|reflect|analysis)\w*)>.*?(?:</\1>|\Z)", ""),
    ("", rf"(?i)\A(?:{MARK}\s*(?:(?:assistant|model)\b)?\s*)+", ""),
    ("", rf"(?s){MARK}.*", ""),  # the next turn
    ("<<", r"<<[^<>\n]*=[^<>\n]*>>", ""),  # GSM8K's annotations of calculations
    ("<", r"(?i)<(?:final_)?answer>\s*", "\n#### "),
    ("<", r"(?i)</(?:final_)?answer>", "\n"),
    ('"', r'answer"\s*:\s*(?:"([^"\n]*)"|\[((?:\s*"[^"]*",?)*+)\s*\])[\s,}]*', r"\n#### \1\2\n"),
    ('"', r'answer"\s*:\s*([^\s"\'\[{},]+)(?=\s*[,}\n])[\s,}]*', r"\n#### \1\n"),
    ("\\", r"\\(?:text|math)\w*\s*\{([^{}]*)\}", r"\1"),
    ("\\", r"\\boxed\s*\{\s*((?:\\.|\{[^{}]*\}|[^{}\\])*)\}", r"\n#### \1\n"),
    ("####", r"\n[ \t$]*(or|and|,)[\s$]*####", r" \1"),  # two boxes are alternatives
    ("\\", r"\\(?:[()\[\],!;: ]|([{}$%#&]))", r"\1"),
    ("{", r"\{([-−\d.,]+)\}", r"\1"),  # "1{,}234", "-{42}"
    ("", r"(?<!\d)\*\*|\*\*(?!\d)|__|`|\*(?<![\w*]\*)(?=\S)|\*(?<=[^\s*]\*)(?!\w)", ""),  # emphasis
)
# Lines with which a completion runs on as another question or speaker. Some of the names also occur
# in reasoning: they count only after an announced answer, if the reply has not used them before.
OTHER_TURN = re.compile(r"""(?ix)(?<=[.!?)])[ \t]*(?:Human|User|Assistant): | \n[ \t>]*(?:
    [\#\[<]*[ \t]*(?:Q|Question|Problem|Human|User|Assistant)[\]>]?[ \t]*[:.]
    | \#+[ \t]*(?:Question|Problem|Instruction|Input|Human|User|Response)[ \t]*:?[ \t]*(?:\n|$)
    | <(?:user|human|assistant)> | (?:user|human|assistant|model)\n+(?=\S+\ )
    | (?P<perhaps>(?P<heading>\#+[ \t]*)?(?:(?:next|another|new)\ )?(?:question|problem|exercise
      |task|input|student|human|user|bot|ai|q))\ ?\d*[ \t]*(?(heading)[:.]?[ \t]*\n|[:.]) )""")


def _plain(reply: str) -> str:
    """The words of the reply itself, a boxed, tagged or JSON answer as a line ``#### answer``."""
    text = without_thoughts(reply)
    for literal, pattern, replacement in CLEANING:
        if literal in text:
            text = re.sub(pattern, replacement, text)
    for turn in OTHER_TURN.finditer(text):
        before, name = text[: turn.start()], turn["perhaps"]
        if not name or (ANNOUNCEMENT.search(f"\n{before}") and name.lower() not in before.lower()):
            return before.strip()
    return text


# Stage 2: announcements --------------------------------------------------------------------------

ANNOUNCEMENT = re.compile(r"""(?x)(?:[Aa]nswer | ANSWER | (?:[Cc]orrect|[Rr]ight|[Bb]est|[Ff]inal)
      \ (?:option|choice|response|result|value|total|one))\b (?!\ (?:choices|options))
      (?:\ (?!(?:is|was|not)\b)[\w'’]+){0,6}?["'”]?[ \t]*  # "to the question"
      (?: (?P<verb>\b(?:is|was|(?:would|should|will|must|to)\ be|equals)\b|=)[ \t]*:? | : )
    | \n[^\w\n]*(?i:(?:(?:the|final|correct|my)\ )*answer)[ \t]*(?:(?=[\n(])|[-–—]\ +(?!\d))
    | \#\#\#\#(?!\ *\d+[.)]\ +\w.{0,80}[^\n.!?](?:\n|$))  # but "#### 2. Compute" is a heading
    | \nA:""")
# Where a clause begins that a denial before it does not cover
CLAUSE = re.compile(r"""(?ix) [;:] | \bbut\b | (?<!!)=(?=\W*$)
    | [,—–]\s*(?:and|so|thus|therefore|hence|which\ means)\b
    | (?:[,—–]|\b(?:and|so|thus|therefore|hence)\b,?)\s+(?=(?:the|this|that|it|he|she|they|we|I|my
    |there|hint|(?-i:[A-Z][a-z]+))\b)""")
# Words that deny or doubt what follows them in their clause
DENIED = re.compile(r"""(?ix)\b(?:not|never|none|nothing|nobody|neither|nor|cannot|hardly|unlike
    |unlikely|without|no(?!\ doubt|\ question|[,:])|far\ from|fail(?:s|ed)?\ to|false\ that
    |instead\ of|wrong(?:ly)?|(?:rather|other|less|more|fewer|greater)\ than|incorrect\w*|mistake\w*
    |(?<!no\ )doubt\w*|(?<!at\ )least|(?:tempting|obvious|common)(?=\s*(?:$|answer|option|choice))
    |thought|claims?|at\ first|(?:eliminat|exclud|reject|discard|contradict|suppos|assum)\w*
    |rul\w+\ out|consider|look\ at|check(?:ing)?(?!\ out)|test(?:ing)?|try(?:ing)?|either|if|whether
    |maybe|perhaps|possibly|unsure|unclear|(?:might|may|could|some)(?:\ \w+)?\ (?:be|think|say
    |believe))\b | n['’]t\b | \b(?:all|any\w*|every\w*|nothing)\ (?:but|except)\b
    | (?P<hint>(?<!each\ )(?<!every\ )\bhint[ _#]?\d*(?:['’]s\s*(?:answer|$)|\ (?:says|suggests
    |gives)\b))""")
FAR = re.compile(r"(?i)\b(?:not|n['’]t),|\b(?:all|any\w*|every\w*|nothing) (?:but|except)\b")
AGREED = re.compile(r"(?i)\bhint.*\b(?:both|agrees?|confirms?)\b")
REPORTED = re.compile(r"(?i)\b(?:hint|people|person|party)[^,;:]*$")  # who says what follows
CONDITION = re.compile(r"(?i)\b(?:if|were|had|unless)\b")
TAKEN_BACK = r"""(?ix) (?:\.\.|…)\s*no\b
    | (?:[.!?\n…][\s)"']{0,4}(?:(?:but|no|oh|hmm)\b\W{0,4}){0,2} | [,—–]\s(?:but|no)\b\W*) (?:
      (?:wait|hold\ on|correction|scratch\ that|on\ second\ thought|I\ disagree|oops|sorry)\b
      (?=\W*$ | \s*[,.!:…—–-] | \s(?:no|let|that|I|it|the|actually)\b)
    | actually,?\ (?=(?:no|yes|wait|let|I)\b)"""
RETRACTION = re.compile(
    TAKEN_BACK
    + r""" | actually\b | (?:that|this|it)(?:\ is|['’]s)\ (?:\w+\ )?
    (?:wrong|incorrect|not\b\W*(?:$|\n|right|correct|so|true)) )"""
)
CHOICE_RETRACTION = re.compile(TAKEN_BACK + ")")  # "That is not true" may be why it is a lie
SO = r"(?:so|thus|therefore|hence)\b"
STOP = re.compile(r"[.!?\n]")
SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+|\n+")


def _denied(before: str, after: str = "") -> bool:
    """Whether a sentence denies, doubts or ascribes to one hint what it says between the two."""
    if REPORTED.search(before) and re.search(r"\b(?:but|however)\b", after):
        return True  # "Both hints say that the answer is 18, but they are wrong."
    clause = before if FAR.search(before) else CLAUSE.split(before)[-1]
    found = DENIED.search(clause)
    return bool(found) and not (found["hint"] and AGREED.search(before + after))


def _read(text: str, stated: Reading, unannounced: Reading, retraction=RETRACTION) -> str | None:
    """Read a plain reply.

    Parameters
    ----------
    text : str
    stated : callable
        (text between this announcement and the next, whether it announces with a verb rather than a
        colon) -> the answer, None if it holds none, or `UNCLEAR`.
    unannounced : callable
        (text without any announcement) -> the same.
    retraction : re.Pattern
        What takes an answer back.
    """
    text = f"\n{text}"
    end, disowned = len(text), False
    for mark in reversed(list(ANNOUNCEMENT.finditer(text))):
        answer = stated(text[mark.end() : end], mark["verb"] is not None)
        end = mark.start()
        if answer is None:
            continue
        start = mark.start() + mark[0].startswith("\n")
        before = STOP.split(text[max(0, start - 200) : start])[-1]
        after = STOP.split(text[mark.end() : mark.end() + 200], maxsplit=1)[0]
        conditional = "would" in mark[0] and CONDITION.search(before + after)
        if before and (conditional or _denied(before + mark[0], after)):
            disowned = True
            continue
        if taken_back := retraction.search(text, mark.end()):
            return _read(text[taken_back.end() :], stated, unannounced, retraction)
        return answer or None
    if disowned:
        return None
    return unannounced(CHOICE_RETRACTION.split(text)[-1].strip()) or None


# Stage 3: the candidates of a sentence, for letters, choices and numbers -------------------------

# What may stand between an announcement and the answer
FILLER = re.compile(r"""(?ix)(?:[\W\d]|\b(?:[a-z]|option|choice|answer|letter|about|approximately
    |exactly|probably|total|of|the|simply|just|definitely|clearly|therefore|thus|so|hence|it|is|think
    |say|that)\b)*""")
# What stands between alternatives
JOINED = re.compile(r"(?i)\W*(?:(?:and|or|nor|maybe|perhaps|possibly|also|option)\b\W*)*")
# What denies an answer when it follows: "(A) is wrong", "18 eggs is wrong"
REFUTED = re.compile(r"""(?x)[^\w,;:.(]*(?:,?\ (?:however|though|therefore|clearly|also|then)\b,?
    |(?<=\d)\ [a-z]+)?\ (?:(?:is|are|was|ca|could|would|does)n['’]t | cannot | fails | contradicts?
    |violates?|might|may|could | (?:is|are|was|can|could|would|does|must|has)(?:\ be(?:en)?)?
    (?:\ \w+ly)?\ (?:not|wrong|incorrect|false|impossible|ruled\ out|out(?=\W*$)|eliminated
    |excluded) )\b""")
OPENING = re.compile(rf"(?i)[\s(*•\"'-]*(?:{SO},? )?(?:option |choice )?\(?")
REMARK = re.compile(r"[,.;:!—–(-]|(?:because|since|as|is (?:the )?(?:correct|right|best))\b")
HEDGE = re.compile(r"\b(?:[Ii]f|maybe|perhaps|possibly)\b|\?")
REASON = re.compile(r"(?i)\b(?:because|since|whereas|although|even though|given that)\b")
FIRST_REASON = re.compile(r"(?i)^\W*(?:because|since|as|given)\b.*,\s+(?!not\b)")
EQUATES = re.compile(r"\b(?:is|equals|gives|yields|(?:\w\w+s|equal) to)\b|→")


class Candidate(NamedTuple):
    """Something in a sentence that may be the answer."""

    start: int
    end: int
    answer: str


class Kind(NamedTuple):
    """What tells letters, choices and numbers apart."""

    find: Callable[[str], list[Candidate]]
    joined: re.Pattern[str] = JOINED
    labels: bool = False  # "(B) the words of the option"
    remarks: bool = False  # "No, they differ."


def _settled(kind: Kind, sentence: str, must_lead: bool = False) -> str | None:
    """The answer that a sentence gives, reasons aside: what it opens with or all that it holds."""
    if reason := REASON.search(sentence, 1):
        sentence = sentence[: reason.start()].rstrip(", ")
    sentence = FIRST_REASON.sub("", sentence)
    found = kind.find(sentence)
    if not found or re.match(r"\W*\?" if kind.labels else r".*\?\W*$", sentence[found[0].end :]):
        return None
    equals = sentence.rfind("=")  # "9 * 2 = 18"
    found = [candidate for candidate in found if candidate.start > equals] or found
    first, last = found[0], found[-1]
    before = sentence[: first.start]
    leads = FILLER.fullmatch(before) or (not must_lead and before.rstrip(" $").endswith("="))
    rival = next((at for at, other in enumerate(found) if other.answer != first.answer), 0)
    joined = rival and kind.joined.fullmatch(sentence, found[rival - 1].end, found[rival].start)
    if leads and not joined and not REFUTED.match(sentence, first.end):
        return first.answer
    if must_lead and not leads:
        return None
    head, *tail = EQUATES.split(sentence)
    if rival and last.start > len(head) and len(tail) == 1 and re.fullmatch(r"\W*\w+\W*", tail[0]):
        return last.answer  # "not ( True ) and ( True ) is False"
    if leads and joined:
        return UNCLEAR
    standing = {
        candidate.answer
        for candidate in found
        if not REFUTED.match(sentence, candidate.end)
        and not _denied(sentence[max(0, candidate.start - 200) : candidate.start])
    }
    return UNCLEAR if len(standing) > 1 else next(iter(standing), None)


def _opening(kind: Kind, line: str, alone: bool = True) -> str | None:
    """The answer that a line is, or opens with if a remark or the option's text follows."""
    found = kind.find(line)
    if not found or not OPENING.fullmatch(line[: found[0].start]):
        return None
    after = line[found[0].end :].lstrip("\"') ")
    remark = kind.remarks and REMARK.match(after)
    if re.search(r"\w", after) and not remark and not (kind.labels and alone):
        return None
    return _settled(kind, line, must_lead=True)


def _unannounced(kind: Kind, text: str) -> str | None:
    """The answer that a reply consists of, or that its first line or its last sentence gives."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    first = _opening(kind, lines[0], alone=len(lines) == 1)
    if first is None and len(lines) == 1:
        first = _opening(kind, SENTENCE.split(text, maxsplit=1)[0], alone=False)
    last = _opening(kind, lines[-1])
    if last and len({_opening(kind, line) for line in lines} - {None}) > 1:
        return UNCLEAR  # the options, listed once more
    *earlier, sentence = SENTENCE.split(text)
    if kind.remarks:  # "True and False is False, so the expression is False"
        sentence = re.split(rf",\s+(?={SO})", sentence)[-1]
    if kind.find(sentence):
        asked = text.removesuffix(sentence).rstrip("\"') \n").endswith("?")
        if asked or (HEDGE.search(sentence) and not (kind.labels and last)):
            return UNCLEAR  # "Does the party agree? No" answers another question
        last = _settled(kind, sentence)
    if kind.remarks and last and not first and not re.match(rf"(?i)\W*{SO}", sentence):
        heads = (REASON.split(other)[0] for other in earlier)
        alone = [_settled(kind, head) for head in heads if len(kind.find(head)) == 1]
        if {*alone, last} - {None, last}:
            return UNCLEAR  # "It evaluates to False. After all, not False is True."
    if first and last and first != last:
        return UNCLEAR
    return first or last


def _by_candidates(kind: Kind, text: str) -> str | None:
    def stated(rest: str, verb: bool) -> str | None:
        return _settled(kind, SENTENCE.split(rest.strip(), maxsplit=1)[0], must_lead=not verb)

    retraction = CHOICE_RETRACTION if kind.remarks else RETRACTION
    return _read(text, stated, partial(_unannounced, kind), retraction)


LETTER = re.compile(r"""(?x) \(([A-Ra-r])\) | ^\W*([a-r])(?=\)?\W*$)
    | (?:^\W*|\b(?:is|be|[Oo]ption|[Cc]hoice|[Aa]nswer|choose|pick|select)\s+)
      (?:[Oo]ption\ |[Cc]hoice\ )?
      ([A-R])(?=\W*$|[).:;]|,(?!\s*(?:and\ |or\ )?[A-R]\b)|\s*[-–—(]|\s+\d|(?<![AI])\s+[A-Z]
        |\s+(?:because|since|as|is\ (?:the\ )?(?:correct|right|best))\b)""")


def letter(reply: str, texts: tuple[str, ...] = ()) -> str | None:
    """Read the option that a reply chooses.

    Parameters
    ----------
    reply : str
    texts : tuple of str
        Answers that are not letters, for questions whose options were cut; read word for word.

    Returns
    -------
    str or None
        ``"(B)"``, from A to R, or one of `texts`. A letter without parentheses counts if it cannot
        be a word: "Answer: B", "B. rain", "option B is correct", not "A Bug's Life".
    """
    exact = {text.casefold(): text for text in texts}

    def find(text: str) -> list[Candidate]:
        whole = exact.get(text.strip(" .\"'").casefold())
        if whole:
            return [Candidate(0, len(text), whole)]
        found = ((at, at.lastindex or 0) for at in LETTER.finditer(text))
        return [Candidate(at.start(i), at.end(), f"({at[i].upper()})") for at, i in found]

    return _by_candidates(Kind(find, labels=True), _plain(reply))


def choice(reply: str, words: tuple[str, ...]) -> str | None:
    """Read which of several words a reply gives, in upper or lower case.

    Parameters
    ----------
    reply : str
    words : tuple of str
        For instance ``("valid", "invalid")``.

    Returns
    -------
    str or None
        One of `words`, spelled as there.
    """
    either = "|".join(f"({re.escape(word)})" for word in words)
    # "no way" does not mean no: after yes and no, a new clause must begin
    aside = r"\s*(?:$|[^\w\s]|(?:because|since|as|and|or|but|it|they|he|she|this|that|the)\b)"
    pattern = re.compile(
        rf"(?i)(?<![\w-])(?<!\w['’])(?:{either})(?![\w-]|['’]\w)(?:(?<!no)(?<!yes)|(?={aside}))"
    )

    def find(text: str) -> list[Candidate]:
        found = pattern.finditer(text)
        return [Candidate(*at.span(), words[(at.lastindex or 0) - 1]) for at in found]

    return _by_candidates(Kind(find, remarks=True), _plain(reply))


# A number, but no date, time, fraction, power, ordinal, list, "2 million" or "hint 2"
NUMBER = re.compile(r"""(?x)(?<![\w.])(?<!\d[/:,])(?<![\^_])(?<![Hh]int\ )(?<![Ss]tep\ )
    (?P<word>(?:minus|negative)\s+)?(?P<sign>-?)(?:[$€£¥₹]\ ?)?(?P<inner>-?)
    (?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?! [\d²³¹⁰⁴-⁹⁻] | [.,/:^_]\d | (?:st|nd|rd|th|k|K|M|[eE]\d+)\b | \s*[¼-¾⅐-⅞]
      | \s+(?:and\s+)?\d+/\d | \s+and\s+(?:an?|one|two|three)[ -](?:half|thirds?|quarters?)\b
      | \s*(?:[x×*]\s*10\s*\^|\\(?:pi|times|cdot)\b)
      | \s*(?:hundred|thousand|million|billion|trillion|dozen)\b )""")
# What joins numbers: "or", "to", "and", or only a unit, as in "5 feet 6 inches"
NUMBERS_JOINED = re.compile(r"""(?x)[^\w(;:=]*(?:(?!(?:and|or|to|for|in|per|every|each|of|from|at
    |over|after|with|when|is|are|not|rather|than|instead|as|which|where)\b)[^\W\d]+\W+){0,2}
    (?:(?:and|or|to)\W+)?""")
# A minus set apart from its number; at the start of a line "-" may be the dash of a list
MINUS_APART = re.compile(r"""(?xm)( (?:\b(?:is|be|to|equals|gives)|[:=($]|\#{4})[^\S\n]*+\$?
    [^\S\n]* | ^\s*(?![-–—]) )(?!—\s)[‐‑‒–−﹣－⁻➖—-][^\S\n]*(?=[$€£¥₹]?\s?[\d.])""")
MINUS = str.maketrans(dict.fromkeys("‐‑‒–−﹣－⁻➖", "-"))
ASIDE = re.compile(r"\s\((?<=[\w.%]\s\()|;")
LIST_NUMBER = re.compile(r"\n[ \t]*\d+[.)][ \t]+(?=[A-Za-z])")


def _numbers(text: str) -> list[Candidate]:
    aside = ASIDE.search(text)  # "18 (9 * 2)"
    if aside and NUMBER.search(text[: aside.start()]):
        text = text[: aside.start()]
    found = []
    for at in NUMBER.finditer(text):
        if not found and text[: at.start()].strip() in ("-", "—"):
            continue  # a sign, or the dash of a list?
        value = f"{Decimal(at['digits'].replace(',', '')):f}"  # in ASCII, whatever the script
        if "." in value:
            value = value.rstrip("0").rstrip(".")
        if value != "0" and (at["word"] or at["sign"] or at["inner"]):
            value = f"-{value}"
        found.append(Candidate(*at.span(), value))
    return found


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
    text = MINUS_APART.sub(r"\1-", LIST_NUMBER.sub("\n", _plain(reply))).translate(MINUS)
    return _by_candidates(Kind(_numbers, NUMBERS_JOINED), text)


# Brackets and words ------------------------------------------------------------------------------

ROW = re.compile(r"[^\w\[\]{}<>()]*([\[\]{}<>()][\[\]{}<>()\s\"',“”‘’]*+)[^\w\[\]{}<>()]*")


def _completion(lines: list[str], last: bool = False) -> str | None:
    """The brackets that the first or last lines consist of: a row, or rows of one bracket each."""
    order = -1 if last else 1
    found = takewhile(bool, map(ROW.fullmatch, filter(str.strip, lines[::order])))
    rows = [re.sub(r"[^\[\]{}<>()]", "", row[1]) for row in found if row][::order]
    if not rows:
        return None
    if set("[({<") & set("".join(rows)) or (len(rows) > 1 and max(map(len, rows)) > 1):
        return UNCLEAR
    return " ".join("".join(rows))


def brackets(reply: str) -> str | None:
    """Read the closing brackets that complete a sequence.

    Parameters
    ----------
    reply : str

    Returns
    -------
    str or None
        For instance ``"] } >"``, separated by single blanks. None if the reply repeats the given
        sequence, so that some brackets open, or if its last line holds anything else.
    """
    if not re.search(r"\\[\[(]", reply):  # else it is LaTeX, not Markdown that escapes them
        reply = re.sub(r"\\([\])>])", r"\1", reply)
    reply = re.sub(  # in a box, braces may be escaped or not
        r"\\boxed\s*\{(\\(?:text|math)\w*\s*\{)?([^\w\n]*)\}(?(1)\s*\})", r"\n#### \2\n", reply
    )

    def stated(rest: str, verb: bool) -> str | None:
        lines = rest.strip().split("\n")
        first = re.match(ROW.pattern + r"(?:(?<=[.,;:])\s|(?<=\s)\w)", lines[0])
        return _completion([first[1]] if first else lines)

    return _read(_plain(reply), stated, lambda text: _completion(text.split("\n"), last=True))


def _word_list(text: str) -> str | None:
    """The words of one line, or of lines of one word each; None if there is more than a list."""
    text = re.sub(r"(?:(?<=\s)|^)(?:\d+[.)]|[-*•])\s+", "", text.strip())
    lines = re.split(r"\n\s*\n", text)[0].split("\n")
    if " " in lines[0].strip():
        lines = lines[:1]
    line = re.sub(r",\s*and\s+(?=\S+$)", ", ", " ".join(lines).rstrip(". "))
    found = re.sub(r"[,;|\"“”\[\]]|->|→", " ", line.replace("’", "'")).split()
    longer = any(" " in line.strip() for line in lines[1:]) or re.search(r"\w\W*\s\(", line)
    if longer or any(re.fullmatch(r"\W+", word) for word in found):
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
        or from lines of one word each, numbered or not. A sentence is not a list.
    """

    def stated(rest: str, verb: bool) -> str | None:
        first, *more = re.split(r"(?<=[^\W\d][.?!])[^\S\n]+", rest.strip(), maxsplit=1)
        # "the sorted words are: "; no sorted list has "are" after "the" or "words"
        by_name = r"[^\n(:]{0,60}?\b(?:the|words|list|order)\b[^\n(:]{0,60}?\b(?:is|are)"
        lead = rf"^(?:[^\n(]*:|{by_name})\s+"
        return None if more and " " not in first.strip() else _word_list(re.sub(lead, "", first))

    def unannounced(text: str) -> str | None:
        body = text.rpartition(":")[2]
        sentence = re.search(r"[^\W\d][.?!]\s|(?m:^)[^A-Z\n]*+[A-Z].*[.?!]$", body)
        return None if sentence else _word_list(body)

    return _read(_plain(reply), stated, unannounced)
