"""Serves what a process counts: ``GET /metrics`` on ``[tavia] metrics_bind_host`` and the service's own port option.

Every service's main calls :func:`serve` once. The API, whose processes are several, does so inside
:func:`several_processes`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from oslo_config import cfg

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def port_of(conf: cfg.ConfigOpts) -> int | None:
    """Where this service's metrics are asked for, None where they are not served."""
    port: int | None = conf.tavia[_option(conf)]
    return port


def _option(conf: cfg.ConfigOpts) -> str:
    return conf.prog.removeprefix("tavia-").replace("-", "_") + "_metrics_port"


def serve(conf: cfg.ConfigOpts, registry: CollectorRegistry | None = None) -> None:
    """Answer from now on, in a thread. Raises SystemExit where the address cannot be listened on.

    ``registry`` is the process's own where none is given.
    """
    port, host = port_of(conf), conf.tavia.metrics_bind_host
    if port is None:
        return
    from prometheus_client import REGISTRY, Gauge, start_http_server  # noqa: PLC0415  see several_processes

    build = Gauge(
        "tavia_build_info", "1, with the release that runs.", ["version", "service"], multiprocess_mode="mostrecent"
    )
    build.labels(version("tavia"), conf.prog).set(1)
    try:
        server, _ = start_http_server(port, addr=host, registry=registry or REGISTRY)
    except OSError as error:
        raise SystemExit(
            f"{conf.prog}: [tavia] metrics_bind_host {host}, {_option(conf)} {port}: {error.strerror}"
        ) from error
    os.register_at_fork(after_in_child=server.socket.close)  # a fork that outlives us would keep the port


@contextmanager
def several_processes(conf: cfg.ConfigOpts) -> Iterator[None]:
    """Serve the sum of what this process and its forks count, in this one; inside, before anything is forked.

    They count in files of a directory of their own, which goes with this process. prometheus_client looks for it when
    it is imported, so nothing that counts may be imported before. Raises SystemExit as :func:`serve`.
    """
    if port_of(conf) is None:
        yield
        return
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before it could be told that there are several processes")
    directory, owner = tempfile.mkdtemp(prefix="tavia-metrics-"), os.getpid()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    try:
        from prometheus_client import CollectorRegistry, multiprocess  # noqa: PLC0415

        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        serve(conf, registry)
        yield
    finally:
        if os.getpid() == owner:  # a fork leaves by this way too
            shutil.rmtree(directory, ignore_errors=True)


def process_ended(pid: int) -> None:
    """A fork is gone: what it counted stays, what it had in progress does not."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess  # noqa: PLC0415

        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
