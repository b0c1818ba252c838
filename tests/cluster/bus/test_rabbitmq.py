"""The server that the tests here start is a real one, and nobody has to tidy up after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from rabbitmq import RabbitMQ

STARTED_BY_ANOTHER = """
import sys, time
from pathlib import Path
from rabbitmq import RabbitMQ
server = RabbitMQ(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_it_lets_its_user_in(rabbitmq: RabbitMQ) -> None:
    assert rabbitmq.ctl("authenticate_user", rabbitmq.user, rabbitmq.password)


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    support = Path(sys.modules["rabbitmq"].__file__ or "").parent
    command = [sys.executable, "-c", STARTED_BY_ANOTHER, str(tmp_path / "of another")]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(support)})
    try:
        assert starter.stdout is not None
        starter.stdout.readline()
        of_it = psutil.Process(starter.pid).children(recursive=True)
        assert {"beam.smp", "epmd"} <= {process.name() for process in of_it}
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    _, alive = psutil.wait_procs(of_it, timeout=20)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
