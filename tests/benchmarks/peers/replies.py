"""The endpoint's reply to a peer: the plain one, in the form that the peer's message asks for."""

import json
import re

FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")
KEY = re.compile(r"`(\w+)`")
VARIABLE = re.compile(r"^\(str\) (\w+)=", re.MULTILINE)
END = 300  # characters at the end of a message, where each peer names the form


def formed(asked: str, text: str) -> tuple[str, str] | None:
    """(phase, reply) if `asked`, the last message, asks for a peer's form; None if it does not."""
    end = asked[-END:]
    if "<IMPROVED_VARIABLE>" in end:  # TextGrad
        return "update", f"<IMPROVED_VARIABLE>{text}</IMPROVED_VARIABLE>"
    if "<END_OF_USER_MESSAGE>" in end and "<proposed_variable>" in asked:  # AdalFlow
        return (
            "update",
            f"<response><reasoning>{text}</reasoning><proposed_variable>{text}</proposed_variable></response>",
        )
    if end.endswith("within ``` blocks."):  # gepa
        return "update", f"```\n{text}\n```"
    if end.endswith("\nYour response:\n"):  # Trace
        variables = VARIABLE.findall(
            asked.partition("\n#Variables\n")[2].partition("\n#Constraints\n")[0]
        )
        return "update", json.dumps(
            {"reasoning": text, "suggestion": dict.fromkeys(variables, text)}
        )
    if fields := FIELD.findall(
        end.partition("Respond with the corresponding output fields")[2]
    ):  # DSPy
        return "forward", "\n\n".join(
            f"[[ ## {field} ## ]]\n{text if field != 'completed' else ''}" for field in fields
        )
    if keys := KEY.findall(
        end.partition("Respond with a JSON object in the following order of fields")[2]
    ):  # DSPy's optimiser
        return "update", json.dumps(dict.fromkeys(keys, text))
    return None
