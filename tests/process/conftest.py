"""What every process test needs: the harness on the path, a directory that PostgreSQL may enter, a lab."""
from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import Lab, LabOptions, PostgresCluster, Templates  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Tests marked slow run with scripts/test --all."""
    config.addinivalue_line("markers", "slow: minutes of load or of waiting; with scripts/test --all only")
    config.addinivalue_line("markers", "alone: measures time, so that nothing else may run beside it")


@pytest.fixture(scope="session", autouse=True)
def templates() -> Iterator[None]:
    """initdb a few times a session rather than for each cluster."""
    path = Path(tempfile.mkdtemp(prefix="tidemill-"))
    os.chmod(path, 0o711)
    PostgresCluster.templates = Templates(path)
    yield
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A scratch directory with a short name (unix sockets) that other users may pass through (PostgreSQL)."""
    path = Path(tempfile.mkdtemp(prefix="tidemill-"))
    os.chmod(path, 0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_cluster(directory: Path) -> Iterator[Callable[[str], PostgresCluster]]:
    """Makes and starts private PostgreSQL clusters; they end with the test."""
    made: list[PostgresCluster] = []

    def make(name: str, database: str = "kalshi_ts") -> PostgresCluster:
        cluster = PostgresCluster(name, directory, database)
        made.append(cluster)
        cluster.create()
        cluster.start()
        return cluster

    yield make
    for cluster in made:
        cluster.destroy()


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Makes labs; at the end of the test they are stopped and their logs are read, and complaints fail the test."""
    labs: list[Lab] = []

    def make(**options: Any) -> Lab:
        labs.append(Lab(LabOptions(**options)))
        return labs[-1]

    yield make
    complaints = [line for lab in labs for line in lab.sweep()]
    assert not complaints, "\n".join(complaints)
