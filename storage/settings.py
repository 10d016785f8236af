"""Every setting of Freshline, read from the environment with the prefix FRESHLINE_.

Nothing here is read at import: whoever needs settings calls `load_settings()`.
"""

from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import InvalidInput


class Settings(BaseSettings):
    """Where Freshline keeps its records and objects, and how it behaves."""

    model_config = SettingsConfigDict(env_prefix="FRESHLINE_", extra="ignore", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".freshline")
    """Directory of the embedded defaults: database, artifacts, Prefect's own state, logs."""

    database_url: SecretStr | None = None
    """SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`; the default is a file in `home`."""

    artifacts_url: str | None = None
    """Root of the object store, any fsspec URL: `s3://bucket/prefix`, `file:///…`; default in `home`."""

    store_id: str | None = None
    """Id of the store that a deployment was registered in; `freshline deploy` writes it for its workers."""

    tenant_id: str = "default"
    """Whose records these are."""

    project: str = "default"
    """The project that new runs belong to."""

    lease_s: float = Field(default=60.0, gt=0)
    """How long a worker holds a run without a heartbeat, in seconds of the database's clock."""

    heartbeat_s: float = Field(default=15.0, gt=0)
    """How often a worker renews its lease, in seconds."""

    reconcile_s: float = Field(default=15.0, gt=0)
    """How often the reconciler compares our records with Prefect's, in seconds."""

    start_within_s: float = Field(default=86_400.0, gt=0)
    """A dispatched run that has not started after this many seconds ends as `never_started`."""

    cancel_within_s: float = Field(default=180.0, gt=0)
    """A run that has not stopped this many seconds after its cancellation was asked for is ended as `cancelled`."""

    wait_within_s: float = Field(default=7 * 86_400.0, gt=0)
    """A run that has waited this many seconds for its upstreams is refused as `waited_too_long`."""

    log_format: str = Field(default="text", pattern="^(text|json)$")
    """How `freshline up` and `freshline reconcile` log: text, or json with one object a line."""

    sqlite_synchronous: str = Field(default="NORMAL", pattern="^(OFF|NORMAL|FULL|EXTRA)$")
    """SQLite's `PRAGMA synchronous`; NORMAL survives a crash of the process, FULL a loss of power too."""

    def resolved_database_url(self) -> str:
        """Return the database URL, with the embedded default filled in. Contains the password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home.expanduser().absolute() / 'freshline.db'}"

    def resolved_artifacts_url(self) -> str:
        """Return the object store's root, with the embedded default filled in."""
        if self.artifacts_url is not None:
            return self.artifacts_url.rstrip("/")
        return (self.home.expanduser().absolute() / "artifacts").as_uri()


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        InvalidInput: a variable has a value that cannot be used; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "FRESHLINE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(f"{name}={first.get('input')!r}: {first['msg']}") from None
