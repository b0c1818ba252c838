"""What a request may do: oslo.policy's word on it, by the rules of ``rbac`` and the operator's policy.yaml.

``gate`` gives every request an :class:`Access`, which knows the rule of its route. A handler finds out whose object
it is and calls :meth:`Access.check` before it reads anything out or changes anything. Whose turn it is when several
things are wrong: the shape of the body (400), whether the object is there (404), the rule (403), all else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import falcon
from oslo_config import cfg
from oslo_context.context import RequestContext
from oslo_policy.policy import Enforcer

from tavia.api import rbac
from tavia.api.errors import ApiError
from tavia.model.seams import Seam, SeamError


class Policy:
    """The rules as they stand now: a changed policy.yaml counts from the next request on.

    Each thread has rules of its own, because oslo.policy reloads them in place: another thread would meet them half
    loaded, and refuse.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Read the policy a first time. Raises SeamError."""
        self._conf = conf
        self._own = threading.local()
        with self._rules():
            pass

    def allows(self, rule: str, project_id: str | None, context: RequestContext) -> bool:
        """Whether the rule lets this caller act on what belongs to the project. Raises SeamError.

        Without a project only those rules do that look at no project.
        """
        if context.is_admin:
            return True
        target = {"project_id": project_id} if project_id is not None else {}
        credentials: dict[str, Any] = dict(context.to_policy_values())
        with self._rules() as enforcer:
            credentials["is_admin"] = enforcer.authorize(rbac.IS_ADMIN, target, credentials)
            return bool(enforcer.authorize(rule, target, credentials))

    @contextmanager
    def _rules(self) -> Iterator[Enforcer]:
        """This thread's, up to date. Raises SeamError for whatever oslo.policy makes of a broken file."""
        try:
            enforcer = self._enforcer()
            enforcer.load_rules()
            _refuse_empty_rules(enforcer)
            yield enforcer
        except Exception as error:
            self._own.enforcer = None  # it has noted the file as read, and would go on with the rules from before
            raise SeamError(
                Seam.CONTROL,
                "policy-unreadable",
                "The policy cannot be read, so nothing is allowed; "
                "mend [oslo_policy] policy_file, which maps rules to checks",
                detail=str(error),
            ) from error

    def _enforcer(self) -> Enforcer:
        enforcer: Enforcer | None = getattr(self._own, "enforcer", None)
        if enforcer is None:
            enforcer = Enforcer(self._conf)
            enforcer.suppress_default_change_warnings = True  # whoever sets enforce_new_defaults = false knows
            enforcer.register_defaults(rbac.list_rules())
            self._own.enforcer = enforcer
        return enforcer


class Access:
    """One request's."""

    def __init__(self, policy: Policy, context: RequestContext, rule: str | None) -> None:
        self._policy = policy
        self._context = context
        self._rule = rule
        self.asked = False

    @property
    def project_id(self) -> str | None:
        """The caller's project; None for a token that is for no project."""
        project_id: str | None = self._context.project_id
        return project_id

    def check(self, project_id: str | None, rule: str | None = None) -> None:
        """Go on only if the rule (None: the route's) allows it on what belongs to this project. Raises ApiError 403.

        What belongs to no project is checked with the caller's own.
        """
        if not self._allows(project_id, rule or self._route_rule()):
            raise ApiError(403, "This service's policy does not allow the request.")

    def project_of_new(self, wanted: str | None) -> str:
        """The project that a new object is for: the caller's unless it names one. Raises ApiError 400, 403."""
        project_id = wanted or self.project_id
        self.check(project_id)
        return project_id or _no_project()

    def project_of_list(self, wanted: str | None) -> str | None:
        """The project whose objects the caller lists; None for those of all. Raises ApiError 400, 403."""
        project_id = wanted
        if not self._allows(wanted, f"{self._route_rule()}-global"):
            project_id = wanted or self.project_id or _no_project()
        self.check(project_id)
        return project_id

    def _allows(self, project_id: str | None, rule: str) -> bool:
        self.asked = True
        return self._policy.allows(rule, project_id, self._context)

    def _route_rule(self) -> str:
        if self._rule is None:
            raise LookupError("A route whose handler asks the policy has no rule")
        return self._rule


def _refuse_empty_rules(enforcer: Enforcer) -> None:
    """A rule that someone left without a check would allow everything to everyone. Raises ValueError."""
    for rule in enforcer.file_rules.values():
        if not isinstance(rule.check_str, str | list):
            raise ValueError(f"the rule {rule.name} has no check; '!' allows it to nobody, '@' to everyone")


def access_of(req: falcon.Request) -> Access:
    """What this request may do."""
    access: Access = req.context.access
    return access


def _no_project() -> str:
    raise ApiError(400, "The token is for no project, and the request names none.")
