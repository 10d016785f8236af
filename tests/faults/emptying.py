"""One store for many examples: it is emptied, and its clock set back, before each of them."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import SQLModel

from freshline.runs.models import Store
from freshline.storage.database import Database
from tests.factories import START


class Clock:
    """The time of everybody; it stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


def empty(database: Database) -> None:
    """Remove every record but the identity of the store."""
    with database.transaction() as connection:
        for table in reversed(SQLModel.metadata.sorted_tables):
            if table.name != Store.__tablename__:
                connection.execute(sa.delete(table))
