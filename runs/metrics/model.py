"""What all standard metrics share: a typed value, its unit and formula, and the convention that it was computed with.

A number without its convention cannot be compared: the same returns have another Sharpe ratio with 252 and with 365
periods a year. This module knows how a metric is declared and what is recorded beside it. It must not know any single
metric, nor import numpy or pandas: the command line and the page read these classes too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from ...storage.errors import nearest_names


class RiskFreeBasis(StrEnum):
    """What the number `risk_free_rate` means."""

    ANNUAL_COMPOUNDED = "annual_compounded"
    """A rate per year; one period earns (1 + rate) ** (1 / periods_per_year) - 1."""
    ANNUAL_SIMPLE = "annual_simple"
    """A rate per year; one period earns rate / periods_per_year."""
    PER_PERIOD = "per_period"
    """What one period earns."""


class Missing(StrEnum):
    """What is done about NaN inside a series of returns."""

    REFUSE = "refuse"
    """Raise, naming the dates. Only the first value may be NaN: `pct_change` leaves one, and it is left out."""
    DROP = "drop"
    """Leave these dates out: the series becomes shorter, and so does the time that it spans."""
    ZERO = "zero"
    """Count them as days without any gain or loss."""


class Convention(BaseModel):
    """How numbers were computed; recorded beside each metric, as far as it matters for that metric."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    periods_per_year: float = Field(default=252.0, gt=0)
    """Rows per year: 252 for exchange days, 365 for calendar days, 52, 12."""
    risk_free_rate: float = Field(default=0.0, gt=-1)
    """The risk-free rate, a fraction; `risk_free_basis` says of what."""
    risk_free_basis: RiskFreeBasis = RiskFreeBasis.ANNUAL_COMPOUNDED
    """Whether the rate is per year or per period."""
    ddof: int = Field(default=1, ge=0, le=1)
    """Standard deviations divide by n - ddof: 1 for a sample, 0 for a whole population."""
    calendar: str | None = "XNYS"
    """The calendar whose days are counted, such as an exchange's code; None when none was followed."""
    missing: Missing = Missing.REFUSE
    """What is done about NaN inside a series of returns."""
    library: str | None = None
    """The library that computed the numbers."""
    library_version: str | None = None
    """Its version."""
    details: Mapping[str, Mapping[str, JsonValue]] = Field(default_factory=dict)
    """What else was chosen, by metric name, such as `{"psi": {"bins": 10}}`."""

    @property
    def risk_free_per_period(self) -> float:
        """The risk-free return of one period, a fraction."""
        if self.risk_free_basis is RiskFreeBasis.PER_PERIOD:
            return self.risk_free_rate
        if self.risk_free_basis is RiskFreeBasis.ANNUAL_SIMPLE:
            return self.risk_free_rate / self.periods_per_year
        return float((1.0 + self.risk_free_rate) ** (1.0 / self.periods_per_year) - 1.0)

    def computed_here(self, details: Mapping[str, Mapping[str, Any]] | None = None) -> Self:
        """Return this convention, naming Freshline and its version as what computed, with `details` added."""
        merged = {name: dict(facts) for name, facts in self.details.items()}
        for name, facts in (details or {}).items():
            merged[name] = {**merged.get(name, {}), **facts}
        return self.model_copy(
            update={"library": "freshline", "library_version": version("freshline"), "details": merged}
        )

    def facts(self, uses: Iterable[str], metric: str) -> dict[str, Any]:
        """Return what is recorded beside `metric`, which depends on the fields `uses`; JSON values only."""
        told = self.model_dump(mode="json", exclude={"details"}, exclude_none=True)
        wanted = [*uses, "library", "library_version"]
        if "risk_free_rate" in wanted:
            wanted.append("risk_free_basis")
        return {name: told[name] for name in wanted if name in told} | dict(self.details.get(metric, {}))


DAILY = Convention()
"""Exchange days of New York, 252 a year, no risk-free rate, sample standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a metric means, whoever computes it."""

    name: str
    """lower_snake_case."""
    unit: str
    """Such as `fraction`, `%`, `rows`, `s`; `text` or `table` when it is no number."""
    formula: str
    """How it is computed, and what it is where that is undefined."""
    uses: tuple[str, ...]
    """The fields of `Convention` that its value depends on."""
    fixed: Mapping[str, Any]
    """What its definition leaves no choice about."""
    source: str | None
    """Paper, or library whose numbers it equals."""
    note: str | None
    """What a reader must know before believing it."""


def measure(
    unit: str,
    formula: str,
    *,
    uses: Iterable[str] = (),
    fixed: Mapping[str, Any] | None = None,
    source: str | None = None,
    note: str | None = None,
    **constraints: Any,
) -> Any:
    """Declare a field of a `Metrics` class; it is None unless given. `constraints` are pydantic's."""
    extra: dict[str, Any] = {
        "unit": unit,
        "uses": list(uses),
        "fixed": dict(fixed or {}),
        "source": source,
        "note": note,
    }
    return Field(default=None, description=formula, json_schema_extra=extra, **constraints)


class Metrics(BaseModel):
    """The standard metrics of one run: typed, frozen, None where one does not apply.

    NaN and infinities are legal values. A scalar of numpy becomes Python's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")

    convention: Convention | None = None
    """How the numbers were computed; None records nothing but units, since nobody said."""

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = cls.model_fields
            for name in data:
                if name not in known:
                    near = " or ".join(map(repr, nearest_names(str(name), known)))
                    hint = f"did you mean {near}?" if near else "log numbers of your own with run.log()"
                    raise ValueError(f"{name!r} is no standard metric of {cls.__name__}: {hint}")
        return data

    def values(self) -> dict[str, float]:
        """Return the numeric metrics that have a value, by name; NaN and infinities are values."""
        found: dict[str, float] = {}
        for name in type(self).definitions():
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[name] = float(value)
        return found

    def conventions(self) -> dict[str, dict[str, Any]]:
        """Return, for each name in `values()`, its unit and what of the convention matters for it, as JSON values."""
        definitions = type(self).definitions()
        recorded: dict[str, dict[str, Any]] = {}
        for name in self.values():
            definition = definitions[name]
            recorded[name] = {"unit": definition.unit}
            if self.convention is not None:
                recorded[name] |= dict(definition.fixed) | self.convention.facts(definition.uses, name)
        return recorded

    @classmethod
    def definitions(cls) -> dict[str, Definition]:
        """Return what each metric of this type means, in order of declaration."""
        found: dict[str, Definition] = {}
        for name, field in cls.model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and "unit" in extra:
                told: dict[str, Any] = dict(extra)
                told["uses"] = tuple(told["uses"])
                found[name] = Definition(name=name, formula=field.description or "", **told)
        return found
