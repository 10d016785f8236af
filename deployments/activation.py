"""Which Prefect this process talks to, for a while.

Owns the change of environment and of Prefect's settings, and that both are put back.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress


@contextmanager
def activated(environment: Mapping[str, str]) -> Iterator[None]:
    """Replace every `PREFECT_` variable of this process by these, in the settings of an imported Prefect too."""
    before = dict(os.environ)
    _replace_environment(without_prefect(before) | dict(environment))
    try:
        with _settings_read_anew():
            yield
    finally:
        _replace_environment(before)
        _refresh_settings()


def without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that do not begin with `PREFECT_`."""
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT_")}


def _replace_environment(wanted: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


@contextmanager
def _settings_read_anew() -> Iterator[None]:
    """Let an imported Prefect forget the profile that it was imported with."""
    if "prefect.context" not in sys.modules:
        yield  # it will read the environment when it is imported
        return
    from prefect.context import use_profile
    from prefect.settings import Profile

    _refresh_settings()  # for other threads: they see the process-wide settings
    with use_profile(Profile(name="freshline", settings={}), include_current_context=False):
        yield


def _refresh_settings() -> None:
    if "prefect.context" in sys.modules:
        from prefect.context import refresh_global_settings_context

        # The user's own settings may be unreadable, which is none of our business.
        with suppress(ValueError):
            refresh_global_settings_context()
