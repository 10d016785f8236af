"""The whole application over a store with a small graph: `api` asks with the token, `stranger` without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.composition import Freshline
from freshline.storage.settings import Settings
from tests.asking import TOKEN, Asking
from tests.unit.runs.conftest import World


@pytest.fixture
def app(world: World, tmp_path: Path) -> FastAPI:
    """The server of the world's store, for this machine alone."""
    freshline = Freshline(Settings(home=tmp_path), world.database, world.objects)
    return create_app(freshline, access=Access(token=TOKEN))


@pytest.fixture
def api(app: FastAPI) -> Iterator[Asking]:
    """Somebody with the token."""
    with Asking(app) as asking:
        yield asking


@pytest.fixture
def stranger(app: FastAPI) -> Iterator[Asking]:
    """Somebody without."""
    with Asking(app, token=None) as asking:
        yield asking
