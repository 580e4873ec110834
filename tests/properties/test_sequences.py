"""Random calls in one process are what they are alone; in a process of its own, since it forks."""

import subprocess
import sys

import pytest


def run(*options: str) -> None:
    command = [sys.executable, "-m", "tests.properties.sequences", *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert not ended.returncode, ended.stdout + ended.stderr


def test_calls_are_what_they_are_alone() -> None:
    run("--seed", "1", "--count", "10")


@pytest.mark.long
def test_two_thousand_calls_are_what_they_are_alone() -> None:
    run("--seed", "0", "--count", "2000")
