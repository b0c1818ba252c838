"""PID 1 of a sandbox: runs the agent, starts it again when it ends, reaps everything, powers off on SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM}
_FIRST_DELAY, _LAST_DELAY = 0.1, 10.0
"""Seconds before an agent that ended is started again; doubled each time unless it had run for longer than the last."""
_GRACE = 5.0
"""Seconds that everything gets to end in an orderly way."""
_OOM_SCORE = "500"
"""When memory runs out the kernel ends something of the agent's before us, proc(5)."""


def run(agent: Callable[[], object]) -> NoReturn:
    """Be init. Signals are waited for, not handled, so nothing here is interrupted halfway."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    delay = _FIRST_DELAY
    while True:
        started = time.monotonic()
        pid = _start(agent)
        if _stopped_before_end(pid):
            os._exit(0)
        if time.monotonic() - started > _LAST_DELAY:
            delay = _FIRST_DELAY
        print(f"init: the agent ended, starting it again in {delay} s", file=sys.stderr, flush=True)
        if signal.sigtimedwait({signal.SIGTERM}, delay):
            os._exit(0)
        delay = min(2 * delay, _LAST_DELAY)


def _start(agent: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.setsid()
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
        agent()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def _stopped_before_end(agent: int) -> bool:
    """Wait for the agent's end, or for SIGTERM, which goes to all: on return everything has had its time to end."""
    while True:
        received = signal.sigwaitinfo(_SIGNALS)
        if received.si_signo == signal.SIGTERM:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGTERM)
            _wait_for_all(time.monotonic() + _GRACE)
            return True
        if agent in _reap():
            return False


def _reap() -> set[int]:
    """Collect all children that have ended."""
    ended: set[int] = set()
    with suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            ended.add(pid)
    return ended


def _wait_for_all(deadline: float) -> None:
    """Until no child is left or it is time; the kernel kills the rest with PID 1."""
    while (left := deadline - time.monotonic()) > 0:
        _reap()
        with suppress(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            signal.sigtimedwait({signal.SIGCHLD}, left)
            continue
        return
