"""A server of Freshline on a test's store, over real HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freshline.runs.api.serving import Serving
from freshline.runs.composition import Freshline
from freshline.storage.settings import Settings
from tests.asking import TOKEN
from tests.unit.runs.conftest import World


@contextmanager
def serving(world: World, home: Path) -> Iterator[str]:
    """Serve the world's store with the tests' token; yield the address."""
    with serving_store(Freshline(Settings(home=home, api_token=TOKEN), world.database, world.objects)) as url:
        yield url


@contextmanager
def serving_store(freshline: Freshline) -> Iterator[str]:
    """Serve a store; yield the address."""
    with Serving(freshline, port=0) as server:
        yield server.url
