"""Processes that write to one SQLite file take turns, however busy one of them is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from service.directory.database import Transaction
from service.directory.sqlite import SqliteDatabase
from service.directory.turnstile import Turnstile
from tests.infrastructure.processes import PROJECT_ROOT

_BUSY = """
import asyncio, sys, time
from pathlib import Path
from sqlalchemy import text
from service.directory.sqlite import SqliteDatabase

def work(transaction):
    transaction.execute(text("INSERT INTO rows VALUES (1)"))
    time.sleep(0.005)

async def write(database):
    while True:
        await database.transact(work)

async def main():
    database = SqliteDatabase(Path(sys.argv[1]))
    asyncio.get_running_loop().call_later(1.0, lambda: print("busy", flush=True))
    await asyncio.gather(*(write(database) for _ in range(64)))

asyncio.run(main())
"""
_HOLDS = """
import sys, time
from pathlib import Path
from service.directory.turnstile import Turnstile

with Turnstile(Path(sys.argv[1]), patience=1.0).turn():
    print("held", flush=True)
    time.sleep(60)
"""


def _started(program: str, file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT_ROOT)


def _add(transaction: Transaction) -> None:
    transaction.execute(text("INSERT INTO rows VALUES (2)"))


async def test_a_process_that_never_rests_keeps_no_other_from_writing(tmp_path: Path) -> None:
    file = tmp_path / "directory.db"
    database = SqliteDatabase(file)
    await database.transact(lambda tx: tx.execute(text("CREATE TABLE rows (n)")).close())
    busy = _started(_BUSY, file)
    try:
        assert busy.stdout is not None
        assert await asyncio.to_thread(busy.stdout.readline) == b"busy\n"
        began = time.monotonic()
        for _ in range(3):
            await database.transact(_add)
        assert time.monotonic() - began < 3.0
    finally:
        busy.kill()
        busy.communicate()
        await database.close()


def test_whoever_holds_a_turn_for_ever_is_waited_for_no_longer_than_patience(
    tmp_path: Path,
) -> None:
    file = tmp_path / "directory.db"
    holder = _started(_HOLDS, file)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with closing(Turnstile(file, patience=0.2)) as turnstile:
            began = time.monotonic()
            with turnstile.turn():
                assert 0.2 <= time.monotonic() - began < 1.0
            holder.kill()
            holder.wait()
            began = time.monotonic()
            with turnstile.turn():
                assert time.monotonic() - began < 0.1
    finally:
        holder.kill()
        holder.communicate()
