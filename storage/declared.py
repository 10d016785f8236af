"""The columns that a table must have, as its deployment declares them: `schema:` in prefect.yaml."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InvalidInput, nearest_names


@dataclass(frozen=True)
class DeclaredTable:
    """What one table must look like; the order of its columns is free."""

    name: str
    columns: Mapping[str, str]
    """Column -> canonical type."""
    allows_extra: bool = False
    """It may have other columns besides."""

    def check(self, schema: Sequence[tuple[str, str]]) -> None:
        """Refuse columns (name, canonical type) that are not those declared.

        Raises:
            InvalidInput: with every difference.
        """
        given = dict(schema)
        missing = [name for name in self.columns if name not in given]
        wrong = [f"missing {name!r} ({self.columns[name]})" for name in missing]
        wrong += [
            f"{name!r} is {given[name]} instead of {kind}"
            for name, kind in self.columns.items()
            if given.get(name, kind) != kind
        ]
        for name in () if self.allows_extra else (name for name in given if name not in self.columns):
            near = nearest_names(name, missing)
            wrong.append(f"undeclared {name!r}" + (f" (is it {near[0]!r}?)" if near else ""))
        if wrong:
            raise InvalidInput(
                f"the table {self.name!r} is not what the deployment's `schema` declares: {'; '.join(wrong)}. Correct "
                "the table, or the declaration in prefect.yaml and deploy it"
            )


def declared_tables(declaration: Mapping[str, Any]) -> dict[str, DeclaredTable]:
    """Return the declared tables by name, from a deployment's declaration as it is recorded."""
    return {
        name: DeclaredTable(name, table["columns"], table.get("extra") == "allow")
        for name, table in (declaration.get("schema") or {}).items()
    }


def check_all_written(declared: Iterable[str], published: Iterable[str]) -> None:
    """Refuse that tables were published, but not one that is declared: what nobody finds is not checked.

    Raises:
        InvalidInput: it names them.
    """
    names = list(published)
    missing = [name for name in declared if name not in names]
    if names and missing:
        raise InvalidInput(
            f"the deployment's `schema` declares {', '.join(map(repr, missing))}, which was not written; written: "
            f"{', '.join(map(repr, names))}. Write the table under that name, or correct the name in prefect.yaml"
        )
