"""One server that forks the processes of all trainings in this folder."""

import pytest

from tests.support.processes import Server


@pytest.fixture(scope="session")
def server():
    return Server()
