"""The bench's clients, each a process in a network namespace: ``python clients.py WHAT ADDRESS PORT [MORE]``.

Standard library only, so that they start fast. Each says ``ready`` once it asks, then what it found. Times are
CLOCK_MONOTONIC in seconds, which all processes of a machine share.

``first ADDRESS PORT BODY``: when an answer with this body (empty: any) first came.
``all ADDRESS PORT COUNT``: when so many different bodies had come.
``steady ADDRESS PORT [PATIENCE]``: a new connection every 10 ms until its input ends; when each was begun, and whether
it was served within so many seconds, as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from contextlib import suppress

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n%s\r\n"
ONCE, AGAIN = REQUEST % b"Connection: close\r\n", REQUEST % b""
GOOD = b"HTTP/1.1 200"
PATIENCE = 0.2
"""Seconds after which an unanswered request counts as not served."""
PERIOD = 0.01
BURST = 10
"""Requests in a row before a pause: enough to see all members soon, few enough to leave the processor to others."""


def first(address: str, port: int, body: str) -> float:
    """Ask every millisecond."""
    while True:
        with suppress(OSError):
            answer = _ask_once(address, port)
            if answer.startswith(GOOD) and answer.endswith(body.encode()):
                return time.monotonic()
        time.sleep(0.001)


def _ask_once(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=PATIENCE) as connection:
        connection.sendall(ONCE)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def all_members(address: str, port: int, count: int) -> float:
    """On one connection, since HAProxy balances requests and not connections."""
    seen: set[bytes] = set()
    with socket.create_connection((address, port), timeout=5.0) as connection:
        for number in itertools.count(1):
            connection.sendall(AGAIN)
            seen.add(connection.recv(4096).rpartition(b"\r\n\r\n")[2])
            if len(seen) == count:
                break
            if number % BURST == 0:
                time.sleep(0.002)
    return time.monotonic()


async def steady(address: str, port: int, patience: float = PATIENCE) -> list[tuple[float, bool]]:
    """Requests do not wait for each other."""
    asked: list[tuple[float, bool]] = []
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                asked.append((begun, (await _exchange(address, port)).startswith(GOOD)))
        except OSError:  # TimeoutError is one
            asked.append((begun, False))

    end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    next_at = time.monotonic()
    while not end.done():
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
        next_at += PERIOD
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))
    await asyncio.gather(*running)
    return sorted(asked)


async def _exchange(address: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(ONCE)
        return await reader.read()
    finally:
        writer.close()


def main(argv: list[str]) -> None:
    """See the module."""
    what, address, port, *more = argv
    print("ready", flush=True)
    match what, more:
        case "first", [body]:
            print(first(address, int(port), body), flush=True)
        case "all", [count]:
            print(all_members(address, int(port), int(count)), flush=True)
        case "steady", []:
            print(json.dumps(asyncio.run(steady(address, int(port)))), flush=True)
        case "steady", [patience]:
            print(json.dumps(asyncio.run(steady(address, int(port), float(patience)))), flush=True)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
