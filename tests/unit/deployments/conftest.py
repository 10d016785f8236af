from pathlib import Path

import pytest

from tests.unit.deployments.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_flows()
    return made
