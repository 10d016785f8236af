"""What every test shares: a Prefect that knows nothing of the user's profile."""

import atexit
import os
import tempfile

# Before anything imports Prefect, which reads its profile and home once.
for _name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[_name]
_home = tempfile.TemporaryDirectory(prefix="freshline-tests-")
atexit.register(_home.cleanup)
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_PROFILES_PATH"] = f"{_home.name}/profiles.toml"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"

pytest_plugins = ["tests.browser", "tests.databases", "tests.sharing", "tests.stack"]
