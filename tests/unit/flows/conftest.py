import pandas as pd
import pytest

from freshline.flows.signals import momentum
from freshline.flows.sources import sp500


@pytest.fixture(scope="session")
def real_prices() -> pd.DataFrame:
    return sp500()


@pytest.fixture(scope="session")
def real_momentum(real_prices: pd.DataFrame) -> pd.DataFrame:
    return momentum(real_prices)
