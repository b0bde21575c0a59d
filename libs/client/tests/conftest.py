"""The peers of a client, fresh for each test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from client_peers import Peers


@pytest.fixture
def peers() -> Peers:
    return Peers()
