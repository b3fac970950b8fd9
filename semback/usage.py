"""What a run asked for, and what it cost: calls, tokens and dollars by phase and model, recorded and live apart."""

from dataclasses import asdict, dataclass, field

SIMULATED = "simulated"  # every simulated model's name starts with this word, so that no result of one passes for real


def tokens(letters: int) -> int:
    """About how many tokens a text has."""
    return round(letters / 4)


def count(said) -> int | None:
    """A number of tokens, as an endpoint tells it; None where it is none."""
    return (
        int(said)
        if type(said) in (int, float) and 0 <= said < 2**53 and said == int(said)
        else None
    )


@dataclass
class Count:
    """Calls and tokens of one phase with one model. `calls` = `live` + `recorded` + `repeated` (asked before by the same run).

    `cut`, `refused`: replies that ended at the token limit, and that were refused or filtered. Tokens are those of `live` and `recorded`
    calls; `live_*` those that this run made the endpoint work for. `uncounted`: replies that came without a count of tokens, so that
    there is no price. `answered_by`: how many replies came under which name, since an endpoint may pass a call on to another model.
    """

    calls: int = 0
    live: int = 0
    recorded: int = 0
    repeated: int = 0
    cut: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    live_prompt_tokens: int = 0
    live_completion_tokens: int = 0
    answered_by: dict[str, int] = field(default_factory=dict)


@dataclass
class Usage:
    """What a run asked for: a Count for each (phase, model), and every reply that could not be read."""

    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    failures: list[dict] = field(default_factory=list)
    _seen: set[bytes] = field(
        default_factory=set, repr=False
    )  # the keys, which take half the room so

    def add(self, phase: str, model: str, reply) -> None:
        """Count a call of `model`, which brought this `llm.Reply`. phase: "forward", "backward" or "update"."""
        count = self.counts.get((phase, model)) or self.counts.setdefault((phase, model), Count())
        count.calls += 1
        count.answered_by[reply.model] = count.answered_by.get(reply.model, 0) + 1
        count.cut += reply.finish_reason == "length"
        count.refused += reply.finish_reason in ("refusal", "content_filter")
        if (key := bytes.fromhex(reply.key)) in self._seen and (reply.recorded or reply.shared):
            count.repeated += 1
            return
        self._seen.add(key)
        tokens = reply.usage.get("prompt_tokens") or 0, reply.usage.get("completion_tokens") or 0
        count.uncounted += not reply.usage
        count.prompt_tokens += tokens[0]
        count.completion_tokens += tokens[1]
        if reply.recorded:
            count.recorded += 1
            return
        count.live += 1
        count.live_prompt_tokens += tokens[0]
        count.live_completion_tokens += tokens[1]

    @property
    def keys(self) -> list[str]:
        """The keys of all responses that were used, sorted."""
        return sorted(key.hex() for key in self._seen)

    def rows(self) -> list[dict]:
        """One plain record for each phase and model, sorted."""
        return [
            {"phase": phase, "model": model, **asdict(count)}
            for (phase, model), count in sorted(self.counts.items())
        ]

    @classmethod
    def from_rows(cls, counts: list[dict], failures: list[dict]) -> "Usage":
        """The usage that `rows` described."""
        names = Count.__dataclass_fields__
        return cls(
            {
                (row["phase"], row["model"]): Count(
                    **{name: row[name] for name in names if name in row}
                )
                for row in counts
            },
            failures,
        )
