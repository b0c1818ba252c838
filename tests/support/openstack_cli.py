"""``openstack``, each command in a process of its own, forked from one that has imported it: that is most of its time.

done = openstack_cli.run(clouds_file, "tavia", "loadbalancer", "list")
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def run(clouds_file: Path, cloud: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Its exit status and what it said, once it has ended. Nothing of this process's environment reaches it."""
    with tempfile.TemporaryDirectory() as said:
        environment = {"PATH": os.environ["PATH"], "HOME": said, "OS_CLIENT_CONFIG_FILE": str(clouds_file)}
        asked = {"words": words, "environment": {**environment, "OS_CLOUD": cloud}, "directory": said}
        returncode = int(_exchange(asked))
        out, err = ((Path(said) / name).read_text() for name in ("out", "err"))
    return subprocess.CompletedProcess(["openstack", *words], returncode, out, err)


def _exchange(asked: dict[str, Any]) -> str:
    process = _forker()
    assert process.stdin and process.stdout
    try:
        process.stdin.write(f"{json.dumps(asked)}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "the process that forks openstack has ended"
        return answer
    except BaseException:  # a test's time is up: the answer would come to the next question
        _end(process)
        _forker.cache_clear()
        raise


@cache
def _forker() -> subprocess.Popen[str]:
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _serve(main: Callable[[list[str]], int]) -> None:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(SystemExit):
        main(["loadbalancer", "list", "--help"])  # imports the modules of all commands
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()  # HOME and the working directory counted at the import: a clouds.yaml there is not found
        if not pid:
            os._exit(_command(main, asked))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _command(main: Callable[[list[str]], int], asked: dict[str, Any]) -> int:
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(asked["directory"]) / name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["openstack", *asked["words"]]
    try:
        return int(main(asked["words"]) or 0)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    from openstackclient import shell

    _serve(shell.main)
