"""Keystone's WSGI application, for gunicorn: one process makes the database, fills it and serves.

``keystone-manage`` would import Keystone, which takes seconds, once for each of these; the Identity API would take
long for every user.
"""

from __future__ import annotations

import os
import uuid
from unittest.mock import patch

from keystone.cmd.bootstrap import Bootstrapper
from keystone.common.provider_api import ProviderAPIs
from keystone.common.sql import upgrades
from keystone.wsgi.api import application
from keystone_server import PROJECTS, REGION, USERS

__all__ = ["application"]


def bootstrap(password: str, url: str) -> None:
    """What ``keystone-manage db_sync`` and ``keystone-manage bootstrap`` do. Harmless when it was done before."""
    upgrades.offline_sync_database_to_version()
    with patch("keystone.server.backends.load_backends"):  # the application has loaded them, and twice is an error
        new = Bootstrapper()
    new.admin_username = new.project_name = new.admin_role_name = "admin"
    new.admin_password = password
    new.service_name = "keystone"
    new.public_url = new.internal_url = url
    new.region_id = REGION
    new.bootstrap()


def fill(password: str) -> None:
    """The projects and users that tests work as, unless they are there."""
    there = {project["name"] for project in ProviderAPIs.resource_api.list_projects()}
    if there.issuperset(PROJECTS):
        return
    for name, project_id in PROJECTS.items():
        new = {"id": project_id, "name": name, "domain_id": "default", "enabled": True}
        ProviderAPIs.resource_api.create_project(project_id, new)
    roles = {role["name"]: role["id"] for role in ProviderAPIs.role_api.list_roles()}
    for user, (project, role) in USERS.items():
        if role not in roles:
            roles[role] = uuid.uuid4().hex
            ProviderAPIs.role_api.create_role(roles[role], {"id": roles[role], "name": role})
        new = {"name": user, "password": password, "domain_id": "default", "enabled": True}
        user_id = ProviderAPIs.identity_api.create_user(new)["id"]
        ProviderAPIs.assignment_api.create_grant(roles[role], user_id=user_id, project_id=PROJECTS[project])


bootstrap(os.environ["PASSWORD"], os.environ["URL"])
fill(os.environ["PASSWORD"])
