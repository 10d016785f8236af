"""Metrics of a BacktestRun: what a series of returns, its trades and its weights are worth.

Owns what each metric means and puts them together; the arithmetic is in `returns`, `sharpe` and `trades`. Must not know
how the returns were simulated.
"""

from typing import TYPE_CHECKING

from .model import DAILY, Convention, Metrics, measure

if TYPE_CHECKING:
    import pandas as pd

_SURVIVORS = (
    "The bundled demonstration prices are survivors: stocks that failed are not among them, so ratios are too high."
)
_SERIES = ("periods_per_year", "calendar", "missing")
_EXCESS = ("periods_per_year", "risk_free_rate", "ddof", "calendar", "missing")
_PLAIN = ("calendar", "missing")
_TAIL = {"cutoff": 0.05, "method": "historical"}


class BacktestMetrics(Metrics):
    """What a simulation of trading gave. r are simple returns per period, n of them; b those of the benchmark.

    Losses are negative: drawdowns, value at risk.
    """

    total_return: float | None = measure(
        "fraction", "Π (1 + r) − 1", uses=["missing"], source="empyrical `cum_returns_final`"
    )
    cagr: float | None = measure(
        "fraction per year",
        "(Π (1 + r))^(periods_per_year / n) − 1; NaN when more than everything was lost",
        uses=_SERIES,
        source="empyrical `cagr`",
    )
    volatility: float | None = measure(
        "fraction per year",
        "std(r) · √periods_per_year; NaN for one day",
        uses=[*_SERIES, "ddof"],
        source="empyrical `annual_volatility`",
    )
    sharpe_ratio: float | None = measure(
        "1 per √year",
        "mean(r − rf) / std(r − rf) · √periods_per_year; ±inf without variance, NaN if the mean is 0 too",
        uses=_EXCESS,
        source="Sharpe 1994; empyrical `sharpe_ratio`",
        note=_SURVIVORS,
    )
    sortino_ratio: float | None = measure(
        "1 per √year",
        "mean(r − rf) · periods_per_year / (√(Σ min(r − rf, 0)² / n) · √periods_per_year); inf without losses",
        uses=["periods_per_year", "risk_free_rate", "calendar", "missing"],
        fixed={"required_return": "risk_free_rate"},
        source="Sortino & Price 1994; empyrical `sortino_ratio`",
    )
    calmar_ratio: float | None = measure(
        "1 per year", "cagr / |max_drawdown|; NaN without a drawdown", uses=_SERIES, source="empyrical `calmar_ratio`"
    )
    information_ratio: float | None = measure(
        "1 per √year",
        "mean(r − b) / std(r − b) · √periods_per_year; ±inf without variance",
        uses=[*_SERIES, "ddof"],
        source="Grinold & Kahn 2000; empyrical `excess_sharpe` · √periods_per_year",
    )
    max_drawdown: float | None = measure(
        "fraction",
        "the lowest of wealth / highest wealth before − 1; starts from the first day's opening",
        uses=["missing"],
        source="empyrical `max_drawdown`",
    )
    avg_drawdown: float | None = measure(
        "fraction",
        "mean over the drawdowns (from a peak until it is regained) of the lowest point of each; 0 without any",
        uses=["missing"],
    )
    drawdown_duration_d: float | None = measure(
        "days",
        "longest run of rows below an earlier peak, the last one may still last",
        uses=_PLAIN,
        fixed={"day": "row"},
    )
    var_95: float | None = measure(
        "fraction",
        "the 5 % quantile of r, interpolated linearly: a loss is negative",
        uses=["missing"],
        fixed=_TAIL,
        source="empyrical `value_at_risk`",
    )
    cvar_95: float | None = measure(
        "fraction",
        "mean of the ⌊(n − 1) · 0.05⌋ + 1 lowest r: a loss is negative",
        uses=["missing"],
        fixed=_TAIL,
        source="empyrical `conditional_value_at_risk`",
    )
    num_trades: int | None = measure("trades", "rows of the trades table, open ones included", ge=0)
    win_rate: float | None = measure("fraction", "closed trades with return > 0 / closed trades; NaN without any")
    profit_factor: float | None = measure(
        "1",
        "Σ gains / |Σ losses| over closed trades, of `pnl` where the table has it, else of `return`; "
        "inf without losses, NaN without both",
    )
    avg_trade_return: float | None = measure("fraction", "mean return of the closed trades; NaN without any")
    turnover: float | None = measure(
        "fraction of value per year",
        "one-way: Σ over rebalances of Σ |w − previous w| / 2, per year; nothing is held before the first",
        uses=["periods_per_year", "calendar"],
        fixed={"turnover": "one_way"},
    )
    avg_holding_period_d: float | None = measure(
        "days",
        "mean over the closed trades of the rows of r from entry to exit; NaN without any",
        uses=["calendar"],
        fixed={"day": "row"},
    )
    alpha: float | None = measure(
        "fraction per year",
        "(1 + mean((r − rf) − beta · (b − rf)))^periods_per_year − 1",
        uses=["periods_per_year", "risk_free_rate", "calendar", "missing"],
        source="Jensen 1968; empyrical `alpha`",
    )
    beta: float | None = measure(
        "1", "cov(r, b) / var(b); NaN without variance of the benchmark", uses=["missing"], source="empyrical `beta`"
    )
    tracking_error: float | None = measure(
        "fraction per year", "std(r − b) · √periods_per_year", uses=[*_SERIES, "ddof"]
    )
    probabilistic_sharpe_ratio: float | None = measure(
        "fraction",
        "Φ(SR √(n − 1) / √(1 − γ₃ SR + (γ₄ − 1) / 4 · SR²)): how sure it is that the true Sharpe ratio is above 0; "
        "SR is mean(r − rf) / std(r − rf), γ₃ and γ₄ are the population's skewness and kurtosis; NaN without variance",
        uses=["risk_free_rate", "periods_per_year", "ddof", "missing"],
        fixed={"benchmark_sharpe": 0.0},
        source="Bailey & López de Prado 2012",
        note=_SURVIVORS,
    )


def backtest_metrics(
    returns: "pd.Series",
    *,
    benchmark: "pd.Series | None" = None,
    trades: "pd.DataFrame | None" = None,
    weights: "pd.DataFrame | None" = None,
    turnover: "pd.Series | None" = None,
    convention: Convention = DAILY,
) -> BacktestMetrics:
    """Compute all metrics that the inputs allow; the others are None.

    Args:
        returns: simple returns, one per period, index ascending (dates). Of an empty series all metrics are NaN.
        benchmark: simple returns; must cover each date of `returns`, other dates are ignored.
        trades: one row per trade; columns return: float64 [fraction], and where known entry_date, exit_date (labels of
            `returns`), pnl: float64 [money]. A trade without return is open.
        weights: n rebalance dates x assets, target weights. The drift between rebalances is not known here: give
            `turnover` where it is.
        turnover: one-way fraction of the value that was traded, per date, the first purchase included; replaces
            what `weights` says.
        convention: periods per year, risk-free rate, ddof, calendar, what to do about NaN.

    Raises:
        InvalidInput: NaN inside the returns while `convention.missing` is `refuse`; an infinite return; an index
            that is not ascending; spacing of dates that contradicts `periods_per_year` by more than a factor of 2;
            a benchmark that does not cover the returns; a trades or weights table of another shape.
    """
    from . import returns as series
    from .sharpe import probability_of_excess
    from .trades import describe_trades, turnover_of_weights, turnover_per_year

    values = series.clean(returns, convention)
    r, periods, ddof = values.to_numpy(), convention.periods_per_year, convention.ddof
    excess = r - convention.risk_free_per_period
    found: dict[str, float | int] = {
        "total_return": series.total_return(r),
        "cagr": series.cagr(r, periods),
        "volatility": series.volatility(r, periods, ddof=ddof),
        "sharpe_ratio": series.ratio_of_mean_to_std(excess, periods, ddof=ddof),
        "sortino_ratio": series.sortino_ratio(excess, periods),
        "calmar_ratio": series.calmar_ratio(r, periods),
        "max_drawdown": series.max_drawdown(r),
        "avg_drawdown": series.avg_drawdown(r),
        "drawdown_duration_d": series.drawdown_duration(r),
        "var_95": series.value_at_risk(r),
        "cvar_95": series.conditional_value_at_risk(r),
        "probabilistic_sharpe_ratio": probability_of_excess(excess, convention=convention),
    }
    details: dict[str, dict[str, str]] = {}
    if benchmark is not None:
        b = series.clean_benchmark(benchmark, values, convention).to_numpy()
        found["information_ratio"] = series.ratio_of_mean_to_std(r - b, periods, ddof=ddof)
        found["tracking_error"] = series.volatility(r - b, periods, ddof=ddof)
        found["beta"] = series.beta(r, b)
        found["alpha"] = series.alpha(excess, b - convention.risk_free_per_period, periods)
    if trades is not None:
        found |= describe_trades(trades, values.index)
    if turnover is not None:
        found["turnover"] = turnover_per_year(turnover, len(r), periods)
        details["turnover"] = {"drift": "as given"}
    elif weights is not None:
        found["turnover"] = turnover_per_year(turnover_of_weights(weights), len(r), periods)
        details["turnover"] = {"drift": "ignored"}
    return BacktestMetrics(**found, convention=convention.computed_here(details))
