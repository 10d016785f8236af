"""What is said of a search that cannot be understood: in one line, with the place marked below it."""

from collections.abc import Iterable

from ...storage.errors import InvalidInput, nearest_names

_SHOWN = 160
"""Characters of the text that are shown around the place."""


class SearchError(InvalidInput):
    """A search that cannot be understood, or names what is not there.

    Its message is one line; a traceback shows the text with a caret below it.
    """

    def __init__(self, message: str, text: str, position: int, *, known: Iterable[str] = ()) -> None:
        self.text = text
        self.position = min(position, len(text))
        """Where in the text, from 0."""
        self.nearest = nearest_names(message_name(text, position), known)
        hint = f"; did you mean {' or '.join(map(repr, self.nearest))}?" if self.nearest else ""
        super().__init__(f"the search cannot be used at character {self.position + 1}: {message}{hint}")
        self.add_note(self.pointed())

    def pointed(self) -> str:
        """Return the text with a caret below the place, two lines."""
        begin = max(0, self.position - _SHOWN // 2)
        # A tab or a line break would move the caret away from its place.
        shown = "".join(one if one.isprintable() else " " for one in self.text[begin : begin + _SHOWN])
        return f"    {shown}\n    {' ' * (self.position - begin)}^"


def message_name(text: str, position: int) -> str:
    """Return the word that begins at a position of a text."""
    end = position
    while end < len(text) and (text[end].isalnum() or text[end] in "_./@-"):
        end += 1
    return text[position:end]
