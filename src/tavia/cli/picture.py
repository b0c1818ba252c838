"""The picture that ends the demonstration: what stands where, and who served what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BAR = 20
_WIDTH = 80
_COLOURS = {"ONLINE": "green", "ACTIVE": "green", "ALLOCATED": "green", "ERROR": "red", "DEGRADED": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Amphora:
    """One of the servers that carry the traffic."""

    id: str
    role: str
    address: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One backend and how many requests it answered."""

    name: str
    address: str
    status: str
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the demonstration found. ``milliseconds`` is the median time of an answer."""

    client: str
    vip: str
    loadbalancer: str
    provisioning_status: str
    operating_status: str
    amphorae: Sequence[Amphora]
    members: Sequence[Member]
    failed: int
    milliseconds: float | None

    @property
    def answered(self) -> int:
        """Requests that any member answered."""
        return sum(member.answered for member in self.members)


def draw(scene: Scene) -> RenderableType:
    """The picture, top to bottom the way of a request."""
    return Group(
        _box("client", f"network namespace {scene.client}"),
        _arrow(_requests(scene)),
        _box("VIP", f"[bold]{scene.vip}[/]  {escape(scene.loadbalancer)}  {_statuses(scene)}"),
        _arrow("held by one amphora; by VRRP the other takes over"),
        _box("amphorae", _amphorae(scene)),
        _arrow("ROUND_ROBIN, each member checked every second"),
        _box("members", _members(scene)),
    )


def _box(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", width=_WIDTH, border_style="cyan")


def _arrow(text: str) -> Text:
    return Text.from_markup(f"      │  [dim]{text}[/]\n      ▼")


def _requests(scene: Scene) -> str:
    pace = "" if scene.milliseconds is None else f", {scene.milliseconds:.1f} ms each"
    return f"{scene.answered + scene.failed} requests: {scene.answered} answered, {scene.failed} failed{pace}"


def _statuses(scene: Scene) -> str:
    return f"{_coloured(scene.provisioning_status)} / {_coloured(scene.operating_status)}"


def _coloured(status: str) -> str:
    return f"[{_COLOURS.get(status, 'default')}]{status}[/]"


def _amphorae(scene: Scene) -> Table:
    table = Table.grid(padding=(0, 2))
    for amphora in sorted(scene.amphorae, key=lambda amphora: amphora.role, reverse=True):
        table.add_row(f"[bold]{amphora.role}[/]", amphora.address, amphora.id, _coloured(amphora.status))
    return table


def _members(scene: Scene) -> Table:
    table = Table.grid(padding=(0, 2))
    for member in scene.members:
        share = member.answered / scene.answered if scene.answered else 0.0
        bar = "█" * round(share * _BAR)
        table.add_row(
            f"[bold]{escape(member.name)}[/]",
            member.address,
            _coloured(member.status),
            f"[green]{bar:<{_BAR}}[/]",
            f"{share:.0%}",
        )
    return table
