"""What a run used: calls and tokens by phase and model, and the replies that were unreadable."""

from dataclasses import asdict, dataclass, field

from .replies import Reply

SIMULATED = "simulated"  # the name of a simulated model begins with it, so none passes for real


@dataclass
class Count:
    """Calls and tokens of one phase with one model.

    `calls` is the sum of `live`, `recorded` and `repeated` (asked before by the same run). `cut`
    replies ended at the token limit; `refused` ones were refused or filtered. Tokens are those of
    live and recorded calls; the `live_…` ones are those that the endpoint worked for in this run.
    `uncounted` replies came without a count of tokens, so they have no price. `answered_by` counts
    replies by the model that they name: an endpoint may pass a call on to another model.
    `truncated` prompts were read only in part; rows without any do not have the field.
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
    truncated: int = 0

    def add(self, reply: Reply, repeated: bool) -> None:
        """Count one reply. repeated: whether the same run asked for it before."""
        self.calls += 1
        self.answered_by[reply.model] = self.answered_by.get(reply.model, 0) + 1
        self.cut += reply.finish_reason == "length"
        self.refused += reply.finish_reason in ("refusal", "content_filter")
        self.truncated += reply.truncated
        if repeated:
            self.repeated += 1
            return
        prompt = reply.usage.get("prompt_tokens") or 0
        completion = reply.usage.get("completion_tokens") or 0
        self.uncounted += not reply.usage
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        if reply.recorded:
            self.recorded += 1
            return
        self.live += 1
        self.live_prompt_tokens += prompt
        self.live_completion_tokens += completion


@dataclass
class Usage:
    """What a run used: a Count for each (phase, model), and every reply that was unreadable.

    Phases are "forward", "backward" and "update". A failure is a dict with phase, node, problem and
    reply.
    """

    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    failures: list[dict] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set, repr=False)  # keys

    def add(self, phase: str, model: str, reply: Reply) -> None:
        """Count a call to `model` and its reply."""
        if (count := self.counts.get((phase, model))) is None:
            count = self.counts[phase, model] = Count()
        repeated = reply.key in self._seen and (reply.recorded or reply.shared)
        self._seen.add(reply.key)
        count.add(reply, repeated)

    def fail(self, phase: str, node: str, problem: str, reply: str | None) -> None:
        """Note a reply that could not be read."""
        self.failures.append({"phase": phase, "node": node, "problem": problem, "reply": reply})

    def include(self, other: "Usage") -> None:
        """Add the counts of another usage, whose phases differ from these."""
        self.counts |= other.counts
        self.failures += other.failures
        self._seen |= other._seen

    @property
    def calls(self) -> int:
        """The number of different requests: what a run with a cache sends, in all phases."""
        return len(self._seen)

    @property
    def keys(self) -> list[str]:
        """The keys of all replies that were used, sorted."""
        return sorted(self._seen)

    def rows(self) -> list[dict]:
        """One plain dict for each phase and model, sorted."""
        rows = [
            {"phase": phase, "model": model, **asdict(count)}
            for (phase, model), count in sorted(self.counts.items())
        ]
        for row in rows:
            if not row["truncated"]:  # so records made before this count existed stay as they are
                del row["truncated"]
        return rows
