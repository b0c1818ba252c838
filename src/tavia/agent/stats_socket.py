"""HAProxy's stats socket: one command line, one answer, with a deadline."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress

from tavia.agent.accounts import Account
from tavia.amphora.protocol import AgentFailed

LINE = 8192
"""Characters of a command line; HAProxy's limit is tune.bufsize, 16384 by default."""

MAX_ANSWER = 32 << 20
"""Bytes; 10,000 members take 3 MiB. HAProxy is not to be trusted with the agent's memory."""

ASSENT = {"", "New server registered."}
"""What HAProxy says to a runtime command that it carried out; anything else is a refusal."""


class SocketSilent(AgentFailed):
    """HAProxy's stats socket does not answer."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("haproxy-silent", f"HAProxy's stats socket does not answer: {cause!r}")


class StatsSocket:
    """The socket at ``path``, which ``account`` listens on; ``timeout`` in seconds for a whole answer."""

    def __init__(self, path: str, account: Account, timeout: float = 5.0) -> None:
        self._path = path
        self._account = account
        self._timeout = timeout

    async def ask(self, command: str) -> str:
        """HAProxy's answer to a command line. Raises SocketSilent."""
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_unix_connection(sock=self._connected())
                try:
                    writer.write(command.encode() + b"\n")
                    return (await _whole(reader)).decode(errors="replace")
                finally:
                    writer.close()
        except (OSError, AgentFailed) as error:
            raise SocketSilent(error) from error

    def _connected(self) -> socket.socket:
        """As the one whom it lets in, who made it: the account; ourselves where an agent before us was HAProxy's user.

        Nobody else's: the path of one may have been put in its place.
        """
        is_ours = os.lstat(self._path).st_uid == os.geteuid()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with nullcontext() if is_ours else self._account.opening():
                connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    async def worker(self) -> int:
        """The process id of the worker that answers. Raises SocketSilent."""
        return worker_pid(await self.ask("show info"))

    async def refused(self, commands: Iterable[str]) -> str | None:
        """Carry out runtime commands; returns what HAProxy said against one of them, None when it took all."""
        for line in lines(commands):
            said = [text for text in (await self.ask(line)).splitlines() if text not in ASSENT]
            if said:
                return " ".join(said)
        return None


async def _whole(reader: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while chunk := await reader.read(1 << 16):
        answer += chunk
        if len(answer) > MAX_ANSWER:
            raise OSError(f"it answers with more than {MAX_ANSWER} bytes")
    return bytes(answer)


def worker_pid(info: str) -> int:
    """The ``Pid`` of ``show info``. Raises SocketSilent when there is none (the worker is just ending)."""
    for line in info.splitlines():
        if line.startswith("Pid: "):
            with suppress(ValueError):
                return int(line[5:])
    raise SocketSilent(EOFError("no Pid in show info"))


def lines(commands: Iterable[str]) -> Iterator[str]:
    """The commands, as many on one line as HAProxy's buffer surely takes."""
    line = ""
    for command in commands:
        if line and len(line) + 1 + len(command) > LINE:
            yield line
            line = command
        else:
            line = f"{line};{command}" if line else command
    if line:
        yield line
