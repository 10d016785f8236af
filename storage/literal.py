"""Text that people wrote, as it may be shown: nothing in it moves a cursor, hides text or turns it around.

Standard library only: the one line of an error needs it.
"""

_JOINERS = "\u200c\u200d"
"""Invisible, yet part of how words and emoji are written in many languages."""


def literal(text: str, *, keep_lines: bool = False) -> str:
    r"""Return a text whose characters that cannot be seen are written out, as in `\x1b[31m`.

    >>> literal("a\x1b[31mb\u202e")
    'a\\x1b[31mb\\u202e'
    >>> literal("one\ntwo"), literal("one\r\ntwo", keep_lines=True)
    ('one\\ntwo', 'one\ntwo')
    """
    if text.isprintable():
        return text
    if keep_lines:
        return "\n".join(literal(line) for line in text.replace("\r\n", "\n").split("\n"))
    return "".join(one if one.isprintable() or one in _JOINERS else _written(one) for one in text)


def one_line(text: str) -> str:
    r"""Return a message as one line.

    >>> one_line("two runs stay:\n  run-1")
    'two runs stay: run-1'
    """
    return literal(" ".join(text.split()) if "\n" in text else text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
