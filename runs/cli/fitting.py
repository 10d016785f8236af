"""A table that fits: as columns where there is room for them, else row by row with the names before the values.

Owns the layout alone. Words are kept whole, so that ids can be copied. Columns that matter least may be left out for
the others to fit, and then the table says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_LONGEST_WORD = 40
"""Columns that a word may ask for: a run's id is as long. A longer one is folded."""
_EDGES, _GAP = 2, 2
_NUMBER = 3
"""A first cell that is no wider is a number, such as that of an event."""
_FACTS = 2
"""A table of facts has two columns, and the second one takes what is left."""


@dataclass(frozen=True)
class Fitted:
    """A title, the names of the columns, and the cells of the rows, ready to be shown."""

    title: Text
    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    lesser: Sequence[str] = ()
    """Columns that may be left out where there is no room for all, the first one first."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out in the width that there is."""
        if not self.rows:
            yield Text.assemble(self.title, (" (none)", "dim"))
            return
        names = [name.plain for name in self.columns]
        for left_out in range(len(self.lesser) + 1):
            shown = [at for at, name in enumerate(names) if name not in self.lesser[:left_out]]
            if (widths := self._widths(shown, options.max_width)) is not None:
                # A title of the table itself would be folded to its width, in the middle of an id.
                yield self.title
                yield self._side_by_side(shown, widths)
                if left_out:
                    yield Text(f"no room for: {', '.join(self.lesser[:left_out])}", style="dim")
                return
        yield from self._one_by_one()

    def _widths(self, shown: Sequence[int], room: int) -> list[int] | None:
        """Return how wide each of these columns is; None when there is no room for a whole word in each."""
        cells = [[self.columns[at], *(row[at] for row in self.rows)] for at in shown]
        needed = [max(_longest_word(cell.plain) for cell in column) for column in cells]
        wanted = [max(_longest_line(cell.plain) for cell in column) for column in cells]
        room -= _EDGES + _GAP * (len(shown) - 1)
        if len(self.columns) == _FACTS and sum(needed) > room:
            needed[0] = min(needed[0], room // 2)
            needed[1] = room - needed[0]
        if sum(needed) > room:
            return None
        widths, left = list(needed), room - sum(needed)
        # Those that lack least first: a column of numbers is whole before a sentence takes what is left.
        for at in sorted(range(len(widths)), key=lambda at: wanted[at] - needed[at]):
            more = min(left, max(0, wanted[at] - needed[at]))
            widths[at] += more
            left -= more
        return [max(1, width) for width in widths]

    def _side_by_side(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for at, width in zip(shown, widths, strict=True):
            made.add_column(self.columns[at], overflow="fold", width=width)
        for row in self.rows:
            made.add_row(*(row[at] for at in shown))
        return made

    def _one_by_one(self) -> Iterator[Text | Padding]:
        yield self.title
        yield Text()
        for row in self.rows:
            # A number alone says little: what stands beside it is its heading too.
            heads = 2 if cell_len(row[0].plain) <= _NUMBER else 1
            yield Text(" ").join(row[:heads])
            facts = Text()
            for name, cell in zip(self.columns[heads:], row[heads:], strict=True):
                if cell.plain in ("", "-"):
                    continue
                facts.append(" · " if facts else "").append(name.plain, style="dim").append(" ").append_text(cell)
            yield Padding(facts, (0, 0, 0, 2))
        yield Text()


def _longest_word(text: str) -> int:
    return min(_LONGEST_WORD, max((cell_len(word) for word in text.split()), default=1))


def _longest_line(text: str) -> int:
    return max((cell_len(line) for line in text.splitlines()), default=1)
