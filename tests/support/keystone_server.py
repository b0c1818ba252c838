"""A real Keystone on loopback: SQLite, Fernet keys and gunicorn in a directory of its own.

``with Keystone(directory) as keystone`` has it bootstrapped, served and filled with :data:`USERS`, in about
five seconds. Everything ends with the block, and with pytest.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import requests
from cryptography.fernet import Fernet
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

BIN = Path(sys.executable).parent
DEADLINE_SECONDS = 60.0
REGION = "RegionOne"

PROJECTS = {name: uuid.uuid5(uuid.NAMESPACE_DNS, name).hex for name in ("tenant", "other", "service")}
"""Name -> id, beside ``admin``, which is bootstrapped."""

USERS = {
    "tavia": ("service", "service"),
    "member": ("tenant", "member"),
    "reader": ("tenant", "reader"),
    "nobody": ("tenant", "guest"),
    "stranger": ("other", "member"),
    "observer": ("tenant", "load-balancer_observer"),
    "global-observer": ("tenant", "load-balancer_global_observer"),
    "lb-member": ("tenant", "load-balancer_member"),
    "quota-admin": ("tenant", "load-balancer_quota_admin"),
    "lb-admin": ("tenant", "load-balancer_admin"),
}
"""User -> (project, role), beside ``admin``. ``tavia`` is the service user of ``[keystone_authtoken]``."""

_CONFIGURATION = """\
[DEFAULT]
log_file = {directory}/keystone.log
[cache]
enabled = false
[credential]
key_repository = {directory}/credential-keys
[database]
connection = sqlite:///{directory}/keystone.sqlite
sqlite_synchronous = false
[fernet_receipts]
key_repository = {directory}/fernet-keys
[fernet_tokens]
key_repository = {directory}/fernet-keys
[identity]
password_hash_rounds = 4
"""


class Keystone:
    """The server and the users in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.password = secrets.token_hex(16)
        self._configuration = directory / "keystone.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it is, without a version."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._configuration.write_text(_CONFIGURATION.format(directory=self.directory))
        for kind in ("fernet", "credential"):
            keys = self.directory / f"{kind}-keys"
            keys.mkdir(mode=0o700)
            for number in "01":
                (keys / number).write_bytes(Fernet.generate_key())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; again after :meth:`stop`, at the same address."""
        listening = socket.create_server(("127.0.0.1", self._port))  # given away, so that nobody else takes the port
        self._port = listening.getsockname()[1]
        settings = {"bind": f"fd://{listening.fileno()}", "threads": 4, "control_socket_disable": True}
        settings |= {"wsgi_app": "keystone_app:application", "pythonpath": str(Path(__file__).parent)}
        # In a file: Keystone takes the process's arguments for its own.
        (self.directory / "gunicorn.conf.py").write_text("".join(f"{k} = {v!r}\n" for k, v in settings.items()))
        environment = {"PASSWORD": self.password, "URL": f"{self.url}/v3"}
        with listening, (self.directory / "gunicorn.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", BIN / "gunicorn"],
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], "OS_KEYSTONE_CONFIG_FILES": str(self._configuration), **environment},
                start_new_session=True,
                pass_fds=[listening.fileno()],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError((self.directory / "gunicorn.log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """Nothing answers any more."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # an orderly end waits for connections that clients keep
            self._process.wait()
            self._process = None
            deadline = time.monotonic() + DEADLINE_SECONDS
            while self._listens():  # the worker, which is not our child, ends a moment later
                assert time.monotonic() < deadline, "Keystone does not end"
                time.sleep(0.01)

    def credentials(self, user: str) -> dict[str, Any]:
        """What a client authenticates with: ``auth`` of a clouds.yaml, a keystoneauth plugin's arguments."""
        return {
            "auth_url": f"{self.url}/v3",
            "username": user,
            "password": self.password,
            "user_domain_id": "default",
            "project_name": "admin" if user == "admin" else USERS[user][0],
            "project_domain_id": "default",
        }

    def session(self, user: str) -> Session:
        """A session of keystoneauth, which gets its token when it first needs one."""
        return Session(auth=Password(**self.credentials(user)))

    def token(self, user: str) -> str:
        """A new token."""
        token = self.session(user).get_token()
        assert token is not None
        return str(token)

    def authtoken(self, **more: str) -> str:
        """The section [keystone_authtoken] of a service that checks tokens here."""
        options = {
            **self.credentials("tavia"),
            "auth_type": "password",
            "www_authenticate_uri": self.url,
            "region_name": REGION,
            **more,
        }
        return "\n".join(("[keystone_authtoken]", *(f"{name} = {value}" for name, value in options.items()), ""))

    def add_service(self, service_type: str, url: str) -> None:
        """An entry of the catalogue, whose endpoints are this URL."""
        service_id = self.create("service", type=service_type, name=service_type)
        for interface in ("public", "internal", "admin"):
            self.create("endpoint", service_id=service_id, interface=interface, url=url, region_id=REGION)

    def create(self, kind: str, **attributes: Any) -> str:
        """A new object of the Identity API; its id."""
        created = self._admin.post(f"{self.url}/v3/{kind}s", json={kind: attributes})
        return str(created.json()[kind]["id"])

    @cached_property
    def _admin(self) -> Session:
        return self.session("admin")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/v3", timeout=10).ok
        except requests.RequestException:
            return False
