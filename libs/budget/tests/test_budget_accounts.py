"""The accounts file: cells that come and go, and a process that is killed with -9 while it reserves."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.budget.accounts import AccountsFile, AccountsLocked, dead_accounts, open_accounts
from flywheel.budget.leases import Left

HOLDER = """
import os, sys
from pathlib import Path
from flywheel.budget.accounts import open_accounts
accounts = open_accounts(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    name = f"{os.getpid()}-{number}"
    accounts.open(name, "p/team/" + "x" * (number * 37 % 900))
    for reserved in range(0, 70_000, 255):
        accounts.write(name, reserved)
        sys.stdout.write(f"{name} {reserved}\\n")
        sys.stdout.flush()
    if number % 3 == 0:
        accounts.drop(name)
        sys.stdout.write(f"{name} -1\\n")
"""


@pytest.mark.parametrize("after_ms", [5, 60, 200])
def test_what_was_written_survives_kill_9(tmp_path: Path, after_ms: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.readline()
    with pytest.raises(AccountsLocked):
        AccountsFile(tmp_path / "0")
    time.sleep(after_ms / 1000)
    process.send_signal(signal.SIGKILL)
    lines = (first + process.stdout.read()).decode().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    said: dict[str, int] = {}
    for line in lines:
        if line.endswith("\n"):
            name, reserved = line.split()
            said[name] = int(reserved)
    (accounts,) = dead_accounts(tmp_path)
    with accounts:
        left = {each.account: each.reserved_pico for each in accounts.left}
    for name, reserved in said.items():
        if reserved >= 0 and name != list(said)[-1]:
            assert left[name] == reserved
    newest = list(said)[-1]
    # The last number may be one further than what could still be said of it.
    assert left.get(newest, -1) in {said[newest], said[newest] + 255, -1 if said[newest] in {-1, 69_870} else None}


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["open", "write", "drop", "reopen"]), st.integers(0, 2**62)),
        max_size=60,
    )
)
def test_a_file_is_what_was_done_to_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("accounts") / "0"
    accounts = AccountsFile(path)
    held: dict[str, tuple[str, int]] = {}
    for number, what, value in steps:
        name = f"life-{number}"
        if what == "open" and name not in held:
            accounts.open(name, "p/" + "ü" * (value % 5000))
            held[name] = ("p/" + "ü" * (value % 5000), 0)
        elif what == "write" and name in held:
            accounts.write(name, value)
            held[name] = (held[name][0], value)
        elif what == "drop":
            accounts.drop(name)
            held.pop(name, None)
        elif what == "reopen":
            accounts.close()
            accounts = AccountsFile(path)
            assert sorted(accounts.left) == sorted(Left(key, *each) for key, each in held.items())
        assert len(accounts) == len(held)
        assert all(key in accounts for key in held)
    accounts.close()


def test_cells_of_closed_accounts_are_used_again(tmp_path: Path) -> None:
    with AccountsFile(tmp_path / "0") as accounts:
        size = (tmp_path / "0").stat().st_size
        for number in range(5000):
            accounts.open(f"life-{number}", "p/team")
            accounts.write(f"life-{number}", 1)
            accounts.drop(f"life-{number}")
        assert (tmp_path / "0").stat().st_size == size


def test_the_window_of_an_account_is_kept(tmp_path: Path) -> None:
    with AccountsFile(tmp_path / "0") as accounts:
        accounts.open("a", "p/team")
        accounts.open("b", "p/team")
        accounts.place("a", 1_763_683_200_000_000)
        accounts.place("nobody", 1)
        accounts.write("a", 7)
    with AccountsFile(tmp_path / "0") as accounts:
        assert sorted(accounts.left) == [Left("a", "p/team", 7, "2025-11-21T00:00:00Z"), Left("b", "p/team", 0, "")]


def test_living_processes_have_slots_of_their_own(tmp_path: Path) -> None:
    with open_accounts(tmp_path) as one, open_accounts(tmp_path) as two:
        one.open("a", "p/team")
        two.open("b", "p/team")
        assert dead_accounts(tmp_path) == []
    with open_accounts(tmp_path) as again:
        assert [left.account for left in again.left] == ["a"]
        (dead,) = dead_accounts(tmp_path)
        assert [left.account for left in dead.left] == ["b"]
        dead.drop("b")
        dead.close()
        assert dead_accounts(tmp_path) == []
