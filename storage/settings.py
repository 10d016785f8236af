"""Every setting of Freshline, read from the environment with the prefix FRESHLINE_.

Nothing here is read at import: whoever needs settings calls `load_settings()`.
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import InvalidInput

_PREFIX = "FRESHLINE_"
_KEYS = frozenset({"key", "secret", "token"})
_WHO = frozenset({"key", "profile", "anon"})
"""Options of s3fs that say who asks."""


class Settings(BaseSettings):
    """Where Freshline keeps its records and objects, and how it behaves."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".freshline")
    """Directory of the embedded defaults: database, artifacts, Prefect's own state, logs."""

    database_url: SecretStr | None = None
    """SQLAlchemy URL of the records: `postgresql+psycopg://…` or `sqlite:///…`. It may hold a password."""

    artifacts_url: str | None = None
    """Root of the object store: `s3://bucket/prefix`, `file:///…`, any fsspec URL."""

    artifacts_options: SecretStr | None = None
    """A JSON object for the object store's driver (fsspec's storage options), such as `{"project": "research"}`.

    It comes before all other settings of the driver."""

    artifacts_block: str | None = Field(default=None, pattern="^[^/]+/[^/]+$")
    """A Prefect block with the object store's credentials, such as `aws-credentials/research`."""

    artifacts_retry_s: float = Field(default=60.0, ge=0)
    """Seconds for which an object store that is busy, out of reach or breaks off is tried again; 0: once."""

    s3_endpoint_url: str | None = None
    """Another S3 server than Amazon's; without it `AWS_ENDPOINT_URL`."""

    s3_region: str | None = None
    """Region of the bucket; without it `AWS_DEFAULT_REGION`, or the profile's."""

    s3_access_key_id: str | None = None
    """Access key of S3; without it the AWS variables, a profile or an instance role."""

    s3_secret_access_key: SecretStr | None = None
    """The secret of the access key."""

    s3_session_token: SecretStr | None = None
    """The token of credentials that expire."""

    api_url: str | None = Field(default=None, pattern="^https?://[^/?#]+[^?#]*$")
    """A server of Freshline that this worker's flows speak to; without it they speak to the database."""

    store_id: str | None = None
    """Id of the store that a deployment was registered in; `freshline deploy` writes it for the workers."""

    tenant_id: str = "default"
    """Whose records these are."""

    project: str = "default"
    """The project that deployments and runs belong to.

    A project has one catalogue; several projects may register in one store, each with its own name."""

    lease_s: float = Field(default=60.0, gt=0)
    """Seconds that a worker holds a run without being heard of, by the database's clock."""

    heartbeat_s: float = Field(default=15.0, gt=0)
    """Seconds between a worker's renewals of its lease; well below the lease."""

    reconcile_s: float = Field(default=15.0, gt=0)
    """Seconds between two passes of the reconciler, which compares the records with Prefect's."""

    start_within_s: float = Field(default=86_400.0, gt=0)
    """A dispatched run that has not started after this many seconds ends as `never_started`."""

    cancel_within_s: float = Field(default=180.0, gt=0)
    """A run whose worker does not stop is ended this many seconds after its cancellation was asked for."""

    wait_within_s: float = Field(default=7 * 86_400.0, gt=0)
    """A run that has waited this many seconds for its upstreams is refused as `waited_too_long`."""

    system_metrics: bool = False
    """1: samples beside every tracked flow how it uses processor, memory, disk, network and GPUs."""

    prefect_artifacts: bool = True
    """Whether each run leaves Prefect artifacts: what the gate saw, inputs, metrics, outputs, a link to its page."""

    page_url: str | None = Field(default=None, pattern=r"^https?://[^\s<>()\[\]\\`|\"']+$")
    """Where people reach Freshline's page, for links to it; `freshline up` knows its own."""

    gc_every_s: float = Field(default=86_400.0, ge=0)
    """Seconds between two collections of garbage by `freshline up` and `reconcile`, whichever comes first; 0: never."""

    gc_grace_s: float = Field(default=604_800.0, gt=0)
    """Seconds that garbage and deleted runs are kept before they go; longer than the longest run."""

    log_format: str = Field(default="text", pattern="^(text|json)$")
    """How `freshline up` and `freshline reconcile` log: `text`, or `json` with one object a line."""

    api_port: int = Field(default=4280, ge=0, le=65535)
    """Where `freshline up` and `serve` answer: the REST API and the page; 0: any port that is free."""

    api_token: SecretStr | None = None
    """What a caller of the API must know, 16 or more characters; without it one is made, in `api-token` of the home."""

    api_names: str | None = None
    """Names, separated by commas, under which the API is asked besides `localhost`, such as that of a proxy."""

    sqlite_synchronous: str = Field(default="NORMAL", pattern="^(OFF|NORMAL|FULL|EXTRA)$")
    """SQLite's `PRAGMA synchronous`: `OFF`, `NORMAL`, `FULL`, `EXTRA`.

    `NORMAL` survives a crash of the process, `FULL` a loss of power too."""

    @field_validator("artifacts_options")
    @classmethod
    def _is_an_object(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parsed = json.loads(value.get_secret_value())
            except ValueError:
                parsed = None
            if not isinstance(parsed, dict):
                raise ValueError('it must be a JSON object, such as {"project": "research"}')
        return value

    def driver_options(self, protocol: str) -> dict[str, Any]:
        """Return what the object store's driver is opened with. Contains secrets.

        Raises:
            InvalidInput: an access key without its secret, or the other way round.
        """
        options: dict[str, Any] = {}
        if protocol in ("s3", "s3a"):
            if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
                raise InvalidInput(
                    "FRESHLINE_S3_ACCESS_KEY_ID and FRESHLINE_S3_SECRET_ACCESS_KEY go together: set both, or neither"
                )
            secret, token = self.s3_secret_access_key, self.s3_session_token
            given = {
                "key": self.s3_access_key_id,
                "secret": secret and secret.get_secret_value(),
                "token": token and token.get_secret_value(),
                "endpoint_url": self.s3_endpoint_url,
                "client_kwargs": {"region_name": self.s3_region} if self.s3_region else None,
            }
            options |= {name: value for name, value in given.items() if value}
        if self.artifacts_options is not None:
            options = overlaid(options, json.loads(self.artifacts_options.get_secret_value()))
        return options

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


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return a driver's options from two places: what stands above counts, and what belongs together is not mixed.

    A key brings its own secret and token, and there is one endpoint. What else is said of the client (its region) is
    taken from both.
    """
    if above.keys() & _WHO:
        below = {name: value for name, value in below.items() if name not in _KEYS}
    clients = [dict(options.get("client_kwargs") or {}) for options in (below, above)]
    if "endpoint_url" in above or "endpoint_url" in clients[1]:
        clients[0].pop("endpoint_url", None)
        below = {name: value for name, value in below.items() if name != "endpoint_url"}
    merged = {**below, **above}
    client = clients[0] | clients[1]
    return merged | {"client_kwargs": client} if client else merged


def load_settings() -> Settings:
    """Read the settings from the environment; the same variables are read once.

    Raises:
        InvalidInput: a variable has a value that cannot be used; the message names it.
    """
    # By name first: to take the values of all variables out of the environment takes three times as long.
    said = frozenset((name, os.environ[name]) for name in os.environ if name.upper().startswith(_PREFIX))
    try:
        # Not Path.home(), which fails where nobody has one: who says where all is kept needs none.
        return _settings(said, os.path.expanduser("~"))
    except ValidationError as error:
        first = error.errors()[0]
        field = "_".join(str(part) for part in first["loc"])
        name = f"FRESHLINE_{field.upper()}"
        # A secret that is malformed is a secret.
        shown = name if is_secret(field) else f"{name}={first.get('input')!r}"
        raise InvalidInput(f"{shown}: {first['msg'].removeprefix('Value error, ')}") from None


@lru_cache(maxsize=4)
def _settings(_said: frozenset[tuple[str, str]], _home: str) -> Settings:
    """Return the settings of these variables, which take a millisecond to read: a flow asks for them several times."""
    return Settings()


def is_secret(field: str) -> bool:
    """Return whether a setting's value is kept out of messages."""
    info = Settings.model_fields.get(field)
    return info is None or "SecretStr" in str(info.annotation)
