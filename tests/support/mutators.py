"""What ``make mutants`` changes in a file, one thing at a time: mutmut's operators, and some that it has not.

mutmut alone would change functions only; here whole tables of decisions are constants. Left alone are annotations,
decorators, imports, docstrings, and sentences for people: strings with a space in them, but for rendered files'.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators as mutmut

Operator = Callable[[Any], Iterable[cst.CSTNode]]
LEFT_ALONE = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one change. ``function`` is the outermost one around it, ``lines`` its body's (empty outside any)."""

    source: str
    was: str
    becomes: str
    function: str
    lines: range


def mutants(source: str, *, prose: bool = False) -> Iterator[Mutant]:
    """Every file that differs from ``source`` in one thing and still compiles; with ``prose``, sentences too."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    module, positions = wrapper.module, wrapper.resolve(PositionProvider)
    texts = [module.code_for_node(statement) for statement in module.body]
    start = source.index(texts[0])
    seen = {source}
    for statement, text in zip(module.body, texts, strict=True):
        collector = _Collector(positions, prose)
        statement.visit(collector)
        for node, changed, function, lines in collector.found:
            mutated = module.code_for_node(statement.deep_replace(node, changed))
            mutated = source[:start] + mutated + source[start + len(text) :]
            if mutated not in seen and _compiles(mutated):
                seen.add(mutated)
                yield Mutant(mutated, *_difference(source, mutated), function, lines)
        start += len(text)


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _difference(source: str, mutated: str) -> tuple[str, str]:
    lines = list(difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm=""))[2:]
    was, becomes = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return was, becomes


class _Collector(cst.CSTVisitor):
    """Finds what can be changed: a node, what becomes of it, and where it stands."""

    def __init__(self, positions: Mapping[cst.CSTNode, CodeRange], prose: bool) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, str, range]] = []
        self._positions, self._prose = positions, prose
        self._around: list[cst.ClassDef | cst.FunctionDef] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, LEFT_ALONE) or (_is_text(node) and not self._prose and _is_prose(node)):
            return False
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._around.append(node)
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                self.found += [(node, changed, *self._place()) for changed in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._around and self._around[-1] is original_node:
            self._around.pop()

    def _place(self) -> tuple[str, range]:
        name = ".".join(each.name.value for each in self._around)
        outermost = next((each for each in self._around if isinstance(each, cst.FunctionDef)), None)
        if outermost is None:
            return name, range(0)
        first, last = outermost.body.body[0], outermost.body
        return name, range(self._positions[first].start.line, self._positions[last].end.line + 1)


def _is_text(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.BaseString | cst.FormattedStringText)


def _is_prose(node: cst.CSTNode) -> bool:
    match node:
        case cst.SimpleString(value=text) | cst.FormattedStringText(value=text):
            return " " in text
        case cst.FormattedString(parts=parts):
            return any(_is_prose(part) for part in parts)
        case cst.ConcatenatedString(left=left, right=right):
            return _is_prose(left) or _is_prose(right)
    return False


def _other_text(node: cst.SimpleString | cst.FormattedStringText) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.FormattedStringText):
        yield node.with_changes(value="XX" + node.value)
    elif node.quote in ("'", '"'):
        start = len(node.prefix) + 1
        yield node.with_changes(value=node.value[:start] + "XX" + node.value[start:])


def _one_operand(node: cst.BooleanOperation) -> Iterator[cst.CSTNode]:
    yield node.left
    yield node.right


def _one_element_less(node: cst.Tuple | cst.List | cst.Set | cst.Dict) -> Iterator[cst.CSTNode]:
    elements: Sequence[Any] = node.elements
    for n in range(len(elements) if len(elements) > isinstance(node, cst.Set) else 0):
        yield node.with_changes(elements=[*elements[:n], *elements[n + 1 :]])


def _rows_swapped(node: cst.Tuple | cst.List) -> Iterator[cst.CSTNode]:
    rows: Sequence[Any] = node.elements
    if all(isinstance(row.value, cst.Tuple) for row in rows):
        for n in range(len(rows) - 1):
            first, second = rows[n].with_changes(value=rows[n + 1].value), rows[n + 1].with_changes(value=rows[n].value)
            yield node.with_changes(elements=[*rows[:n], first, second, *rows[n + 2 :]])


def _undone(node: cst.Expr | cst.Raise | cst.AugAssign | cst.Del) -> Iterator[cst.CSTNode]:
    if not (isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString)):
        yield cst.Pass()


def _one_link_less(node: cst.Call) -> Iterator[cst.CSTNode]:
    """``select(x).where(y)`` -> ``select(x)``, ``name.lower()`` -> ``name``."""
    if isinstance(node.func, cst.Attribute) and (isinstance(node.func.value, cst.Call) or not node.args):
        yield node.func.value


def _one_argument_less(node: cst.Call) -> Iterator[cst.CSTNode]:
    for n in range(len(node.args)):
        yield node.with_changes(args=[*node.args[:n], *node.args[n + 1 :]])


NOT_OF_MUTMUT = {
    mutmut.operator_string,  # three of a kind: ours makes one
    mutmut.operator_assignment,  # None instead of what is assigned, or given: nearly all are refused by mypy
    mutmut.operator_arg_removal,
}
OPERATORS: list[tuple[Any, Operator]] = [
    *((kind, operator) for kind, operator in mutmut.mutation_operators if operator not in NOT_OF_MUTMUT),
    (cst.SimpleString | cst.FormattedStringText, _other_text),
    (cst.If | cst.CompIf, mutmut.operator_if_exp),
    (cst.BooleanOperation, _one_operand),
    (cst.Tuple | cst.List | cst.Set | cst.Dict, _one_element_less),
    (cst.Tuple | cst.List, _rows_swapped),
    (cst.Expr | cst.Raise | cst.AugAssign | cst.Del, _undone),
    (cst.Call, _one_argument_less),
    (cst.Call, _one_link_less),
]
"""On which nodes, and what becomes of one."""
