"""What the shipped flows have in common: which table a role means.

The callables of a deployment are called with the tables of its upstreams, by role, as keyword arguments.
"""

import pandas as pd

from .context import RunContext


def read_role(run: RunContext, role: str) -> pd.DataFrame:
    """Return the role's table: the one of the role's name where the upstream has it, else its only one.

    Raises:
        NotFound: there is no such role, or its deployment has no version.
        InvalidInput: the upstream has several tables, and none of the role's name.
    """
    upstream = run.inputs.get(role)
    has_it = upstream is not None and role in upstream.artifacts
    table: pd.DataFrame = run.read(role, table=role if has_it else None)
    return table


def read_roles(run: RunContext, *, without: tuple[str, ...] = ()) -> dict[str, pd.DataFrame]:
    """Return the table of every upstream by role, but those in `without`."""
    return {role: read_role(run, role) for role in run.inputs if role not in without}


def resource_name(run: RunContext) -> str:
    """Return the name of the run's resource: `prices` of `refresh/prices`."""
    return run.deployment.partition("/")[2]
