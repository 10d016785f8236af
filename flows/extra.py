"""What the shipped market-data flows need beyond the core: the extra `freshline[quant]`.

Owns the one message that a user without the extra gets. Knows no library by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ..storage.errors import MissingExtra


@contextmanager
def needs_quant(what: str) -> Iterator[None]:
    """Turn a failed import in the block into one clear error; `what` names who needs it.

    Raises:
        MissingExtra: a library of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{what} needs {error.name}, which is not installed: pip install 'freshline[quant]'"
        ) from error
