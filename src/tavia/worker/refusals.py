"""What one convergence learns from HAProxy's refusals: which units it holds back, and why.

HAProxy names a line, or a unit in its message, or nothing. Where it names nothing the newest change is held back on a
guess; once the configuration passes, each earlier guess gets one more chance.
"""

from __future__ import annotations

from tavia.amphora.protocol import BundleRefused
from tavia.model.seams import Fault
from tavia.model.tree import Tree
from tavia.render import unit_of_line
from tavia.worker.faults import fault_of
from tavia.worker.hold_back import changed_units, held_together


class Refusals:
    """``tree`` is always a :meth:`Tree.intended`."""

    def __init__(self) -> None:
        self._held: dict[str, Fault] = {}
        self._guessed: list[str] = []
        self._pardoned: set[str] = set()

    @property
    def hold_any(self) -> bool:
        """Whether a unit is held back."""
        return bool(self._held)

    def faults(self, tree: Tree) -> dict[str, Fault]:
        """The units held back, with what has to be held back with them."""
        return {each: fault for unit, fault in self._held.items() for each in held_together(tree, unit)}

    def add(self, tree: Tree, refused: BundleRefused, text: str) -> None:
        """Hold back the unit that HAProxy named, else the newest changed one. Raises ``refused`` where none is left.

        ``text`` is the haproxy.cfg that was refused.
        """
        candidates = [unit for unit in changed_units(tree) if unit not in self.faults(tree)]
        if not candidates:
            raise refused
        named = unit_of_line(text, refused.line) if refused.line else None
        named = named or next((unit for unit in candidates if unit in refused.message), None)
        unit = named if named in candidates else candidates[0]
        if unit not in self._pardoned and unit != named:
            self._guessed.append(unit)
        self._held[unit] = fault_of(refused, next(head.fault for head in tree.rows.units if head.id == unit))

    def pardon(self) -> bool:
        """Let go of a unit that was held back on a guess before the guilty one was. Whether there was one."""
        if len(self._guessed) < 2:  # noqa: PLR2004 - the last guess is what made it pass
            return False
        innocent = self._guessed.pop(0)
        self._pardoned.add(innocent)
        del self._held[innocent]
        return True
