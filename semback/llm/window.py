"""Whether a prompt fits into a model's window: one that surely does not is not sent."""

from collections.abc import Sequence
from functools import cache

from ..errors import ModelError
from ..prompts import fenced
from ..usage import SIMULATED

LETTERS = 5  # of a prompt for each token, in bytes: real text has fewer, so what is refused by this measure is surely too long
SMALLEST = 4096  # tokens of the smallest window that is looked up


@cache
def window(model: str) -> int | None:
    """The most tokens that a prompt and its reply may have together, from genai-prices; None where it does not know."""
    if model.startswith(SIMULATED):
        return None
    from genai_prices import data_snapshot

    try:
        return (
            data_snapshot.get_snapshot()
            .find_provider_model(model, None, None, None)[1]
            .context_window
        )
    except LookupError:
        return None


def fits(messages: Sequence[dict], model: str, most: int | None = None) -> None:
    """ModelError where a prompt is surely longer than the model's window, of `most` tokens where they are given; it tells the size of
    each part."""
    texts = [_text(message) for message in messages]
    sizes = [len(text.encode()) for text in texts]
    most = (
        most or sum(sizes) > SMALLEST * LETTERS and window(model)
    )  # else it need not be known, and genai-prices not read
    if most and sum(sizes) > most * LETTERS:
        parts = [
            (f"the {message.get('role')} message", size) for message, size in zip(messages, sizes)
        ]
        parts += [(label, len(part.encode())) for text in texts for label, part in fenced(text)]
        largest = ", ".join(
            f"{label} {size:,}" for label, size in sorted(parts, key=lambda part: -part[1])[:8]
        )
        raise ModelError(
            f"this prompt has {sum(sizes):,} bytes, and the window of {model} is {most:,} tokens: it was not sent. "
            f"Its largest parts, in bytes: {largest}. Shorten one of them, or take a model with a larger window."
        )


def _text(message: dict) -> str:
    """The text of a message: images and sounds, which may be parts of its content, are no tokens by their length."""
    content = message.get("content")
    return (
        "\n".join(str(part.get("text", "")) for part in content)
        if isinstance(content, list)
        else str(content)
    )
