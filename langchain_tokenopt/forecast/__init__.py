"""What is to come: how long answers will be, what a run, a day or a month will have cost."""

from __future__ import annotations

from langchain_tokenopt.forecast.lengths import CUT_FACTOR, Forecast, UsageForecaster
from langchain_tokenopt.forecast.runs import RunForecast, forecast_run
from langchain_tokenopt.forecast.series import Estimate, Method
from langchain_tokenopt.forecast.spend import SpendForecast, forecast_spend

__all__ = [
    "CUT_FACTOR",
    "Estimate",
    "Forecast",
    "Method",
    "RunForecast",
    "SpendForecast",
    "UsageForecaster",
    "forecast_run",
    "forecast_spend",
]
