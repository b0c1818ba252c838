"""deploy/octavia.conf, filled in: Tavia uses all of it, and Octavia itself would accept it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tavia import config

FILE = Path(__file__).parents[3] / "deploy" / "octavia.conf"
OCTAVIA = Path(sys.prefix).parent / "octavia-venv" / "bin" / "python"
"""`make bench-octavia` installs it."""

AN_ID = "33b33aa1-3d5c-4d31-8c2c-6c6d2a9a3d11"
VALUES = {
    "RABBIT_PASSWORD": "rabbit-pass",
    "API_ADDRESS": "10.0.0.5",
    "DATABASE_PASSWORD": "db-pass",
    "KEYSTONE_URL": "http://10.0.0.5:5000/v3",
    "SERVICE_PASSWORD": "service-pass",
    "SERVICE_PROJECT_ID": "1f1d2cc17c5b4b6fb5ae5c5c41d2ac65",
    "FLAVOR_ID": AN_ID,
    "MGMT_NETWORK_ID": AN_ID,
    "AMPHORA_GROUP_ID": AN_ID,
    "MGMT_ADDRESS": "172.16.0.2",
    "HEARTBEAT_KEY": "a-heartbeat-key",
}

READ_BY_OCTAVIA = """
import sys
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from octavia import opts
from octavia.common import config
from oslo_config import cfg
from oslo_db import options as database
from oslo_log import _options as log
from oslo_messaging import opts as messaging
from oslo_middleware import opts as middleware

lists = [*opts.list_opts(), *log.list_opts(), *messaging.list_opts(), *middleware.list_opts(), *auth_token.list_opts()]
known = {(getattr(group, "name", group) or "DEFAULT", option.dest) for group, options in lists for option in options}
known |= {("database", option.dest) for option in database.database_opts}
password = loading.get_auth_common_conf_options() + loading.get_auth_plugin_conf_options("password")
known |= {(group, option.dest) for group in ("service_auth", "keystone_authtoken") for option in password}
config.init(["--config-file", sys.argv[1]])
for group, option in known:
    if group in config.cfg.CONF and option in config.cfg.CONF[group]:
        config.cfg.CONF[group][option]
sections = {}
cfg.ConfigParser(sys.argv[1], sections).parse()
print(sorted((group, name) for group, values in sections.items() for name in values if (group, name) not in known))
"""


@pytest.fixture(params=[False, True], ids=["as it is", "with all that is commented out"])
def filled_in(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    text = FILE.read_text()
    assert set(re.findall(r"%(\w+)%", text)) - {"WORDS"} == set(VALUES)
    if request.param:
        text = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    for name, value in VALUES.items():
        text = text.replace(f"%{name}%", value)
    path = tmp_path / "octavia.conf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("service", ["tavia-api", "tavia-worker", "tavia-health-manager", "tavia-housekeeping"])
def test_every_service_takes_it_and_all_of_it_has_an_effect(filled_in: Path, service: str) -> None:
    conf = config.load(["--config-file", str(filled_in)], service, [])
    assert config.unused_options(conf) == []
    assert conf.controller_worker.amp_boot_network_list == [AN_ID]
    assert conf.service_auth.password == conf.keystone_authtoken.password == "service-pass"


@pytest.mark.skipif(not OCTAVIA.exists(), reason="Octavia is not installed: make bench-octavia")
def test_octavia_takes_it_and_knows_all_of_it(filled_in: Path) -> None:
    ran = subprocess.run([OCTAVIA, "-c", READ_BY_OCTAVIA, filled_in], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr
