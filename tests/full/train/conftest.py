"""One server of processes for all trainings here."""

import pytest

from tests.support.processes import Server


@pytest.fixture(scope="session")
def server():
    return Server()
