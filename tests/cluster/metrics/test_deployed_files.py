"""Alert rules and dashboard: promtool accepts them, they fire when they should, and ask for what there is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from controllers import Controllers
from instance import eventually
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from scraping import Ports, scrape

from tavia.cli.main import COMMANDS
from tavia.metrics import api, bus, calls, database, health, housekeeping, worker

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/prometheus/tavia-alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/tavia-dashboard.json"
OF_THE_SCRAPE = {"job", "instance"}
MODULES = (api, bus, calls, database, health, housekeeping, worker)
DECLARED = {m._name: set(m._labelnames) for module in MODULES for m in vars(module).values()
            if isinstance(m, MetricWrapperBase) and not m._labelvalues}  # fmt: skip
"""Family -> its labels, for those that nothing was counted of yet."""
SELECTOR = re.compile(r"\b(tavia_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", ()))


@pytest.fixture(scope="module")
def live(stand: Controllers, ports: Ports) -> dict[str, Metric]:
    """Every family that a service shows, after all of them did something."""
    eventually(lambda: scrape(ports["tavia-housekeeping"])["tavia_loadbalancers"].samples, "housekeeping has counted")
    return {name: family for port in ports.values() for name, family in scrape(port).items()}


def labels_of(sample: str, live: dict[str, Metric]) -> set[str]:
    """The labels of a sample that a query names. Fails where no service shows such a one."""
    for suffix in ("", "_total", "_bucket", "_count", "_sum"):
        family = sample.removesuffix(suffix) if suffix else sample
        found = live.get(family)
        kinds = {"": ("gauge",), "_total": ("counter",)}.get(suffix, ("histogram",))
        if found is not None and sample.endswith(suffix) and found.type in kinds:
            shown = {name for s in found.samples for name in s.labels}
            extra = {"le"} if suffix == "_bucket" else set()
            return shown | DECLARED.get(family, set()) | extra | OF_THE_SCRAPE
    raise AssertionError(f"no service shows {sample}")


def test_promtool_accepts_rules_and_configuration() -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should_and_are_silent_otherwise() -> None:
    promtool("test", "rules", "tavia-alerts.test.yml")


def test_each_alert_is_tried(live: dict[str, Metric]) -> None:
    tried = (RULES.parent / "tavia-alerts.test.yml").read_text()
    assert [rule["alert"] for rule in rules() if f'alertname="{rule["alert"]}"' not in tried] == []


def test_what_alerts_and_panels_ask_for_is_what_the_services_show(live: dict[str, Metric]) -> None:
    asked = 0
    for query in queries():
        known: set[str] = set()
        for sample, conditions in SELECTOR.findall(query):
            labels = labels_of(sample, live)
            assert set(re.findall(r"(\w+)\s*[=!]", conditions)) <= labels, query
            known |= labels
            asked += 1
        for names in GROUPING.findall(query):
            assert {name.strip() for name in names.split(",")} <= known, query
    assert asked > 50


def test_every_family_is_on_the_dashboard_or_alerted_on() -> None:
    asked = " ".join(queries())
    assert [name for name in DECLARED if not re.search(rf"\b{name}(_\w+)?\b", asked)] == []


def test_every_family_is_in_the_operators_guide() -> None:
    guide = (ROOT / "docs/operator-guide.md").read_text()
    assert [name for name in (*DECLARED, "tavia_build_info") if f"`{name}" not in guide] == []


def test_a_bar_shows_each_event_once_the_first_of_its_kind_too(tmp_path: Path) -> None:
    """rate() alone does not see the first: its series begins at 1."""
    shown = {"3m5s": [{"value": 1}], "8m5s": [{"value": 1}]}
    tests = []
    for query in (query for query in queries() if " unless " in query and "$__interval" in query):
        (sample, _), *_ = SELECTOR.findall(query)
        expr = query.replace("$__interval_ms", "60000").replace("$__interval", "60s").replace("$__rate_interval", "75s")
        points = [
            {"expr": f"sum(round({expr}))", "eval_time": at, "exp_samples": shown.get(at, [])}
            for at in (f"{minute}m5s" for minute in range(1, 11))
        ]
        events = {"series": f'{sample}{{outcome="failed"}}', "values": "_x9 1x19 2x20"}
        tests.append({"interval": "15s", "input_series": [events], "promql_expr_test": points})
    assert len(tests) == 6
    (tmp_path / "bars.yml").write_text(yaml.safe_dump({"tests": tests}))
    promtool("test", "rules", str(tmp_path / "bars.yml"))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_names_the_command_to_begin_with(rule: dict[str, Any]) -> None:
    commands = re.findall(r"`tavia (\w+ \w+)", rule["annotations"]["summary"])
    assert commands
    assert set(commands) <= set(COMMANDS)


def test_panels_have_an_id_each_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels())
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
