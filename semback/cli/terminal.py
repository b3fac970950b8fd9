"""What the `semback` command prints."""

import click


def echo(text: object, error: bool = False) -> None:
    """Print text; on stderr if it is an error.

    Text from files and servers may hold control characters, with which a terminal would do as they
    say (move the cursor, fill the clipboard). All but newlines are printed as escapes.
    """
    safe = (char if char.isprintable() or char == "\n" else escaped(char) for char in str(text))
    click.echo("".join(safe), err=error)


def escaped(char: str) -> str:
    """A character as Python writes it in a string, such as ``\\x1b``."""
    return char.encode("unicode_escape").decode()
