"""The process that ``tavia up`` leaves behind, ``python -m tavia.cli.background``: the supervisor.

When it is killed its services run on; the next ``tavia up`` replaces them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from pathlib import Path

from tavia.cli import report
from tavia.cli.embedded import Embedded
from tavia.cli.supervisor import Supervisor
from tavia.cloud.local import cgroups
from tavia.cloud.local.processes import Process


def main() -> None:
    """Join the instance's cgroup, where ``tavia down`` finds us whatever happens, and keep the services alive."""
    parser = argparse.ArgumentParser(prog="tavia-supervisor")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--api-socket", type=int, required=True, help="the descriptor where the API listens")
    given = parser.parse_args()
    embedded = Embedded.of(given.state_dir)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s supervisor %(message)s")
    cgroups.join(embedded.services_cgroup, os.getpid())
    report.write_process(embedded.supervisor_file, Process.of(os.getpid()))
    asyncio.run(Supervisor(embedded.services(given.api_socket), embedded.log_dir, embedded.services_file).run())
    embedded.supervisor_file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
