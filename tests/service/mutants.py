"""Small wrong versions of a module: one change each, of those that people make. Knows no test.

Left alone is what changes no behaviour: docstrings, annotations, and descriptions of settings, which
tests/test_settings.py holds to conf/README.md.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

_ANNOTATIONS = ("annotation", "returns")
_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.LShift: ast.RShift, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """``plant`` changes the tree, for good: it is called in a process of its own."""

    line: int
    what: str
    plant: Callable[[], None]


def mutants_of(tree: ast.Module) -> list[Mutant]:
    """Every one, by line. They change ``tree`` itself."""
    return sorted(_below(tree), key=lambda mutant: mutant.line)


def _below(parent: ast.AST) -> Iterator[Mutant]:
    for name, value in ast.iter_fields(parent):
        if name in _ANNOTATIONS or (isinstance(parent, ast.AnnAssign) and name == "target"):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.AST) and not _says_nothing(parent, name, place, child):
                yield from _of(child, partial(_put, parent, name, place))
                yield from _below(child)


def _put(parent: ast.AST, name: str, place: int | None, new: Any) -> None:
    if place is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[place] = new
    ast.fix_missing_locations(parent)


def _says_nothing(parent: ast.AST, name: str, place: int | None, child: ast.AST) -> bool:
    is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    return is_text or (isinstance(child, ast.keyword) and child.arg == "description")


def _of(node: ast.AST, put: Callable[[Any], None]) -> Iterator[Mutant]:
    """Those of one node; ``put`` sets another one in its place."""
    line: int = getattr(node, "lineno", 0)

    def instead(what: str, new: ast.AST) -> Mutant:
        return Mutant(line, what, partial(put, ast.copy_location(new, node)))

    if isinstance(node, ast.Compare):
        for place, found in enumerate(node.ops):
            for other in _COMPARED.get(type(found), ()):
                yield Mutant(
                    line, f"{type(found).__name__} becomes {other.__name__}", partial(_set, node.ops, place, other())
                )
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield Mutant(
            line, f"{type(node.op).__name__} becomes {type(other_op).__name__}", partial(setattr, node, "op", other_op)
        )
        for value in node.values:
            yield instead(f"only `{_short(value)}`", value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield instead("not is lost", node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        new = _COMPUTED[type(node.op)]()
        yield Mutant(line, f"{type(node.op).__name__} becomes {type(new).__name__}", partial(setattr, node, "op", new))
    elif isinstance(node, ast.Constant):
        yield from (
            instead(f"{node.value!r:.40} becomes {new!r}", ast.Constant(new)) for new in _other_constants(node.value)
        )
    elif isinstance(node, ast.IfExp):
        yield instead("always the first", node.body)
        yield instead("always the second", node.orelse)
    elif isinstance(node, ast.Call):
        for place, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "description"):
                yield Mutant(line, f"without the argument {keyword.arg}", partial(_remove, node.keywords, place))
    elif isinstance(node, ast.comprehension):
        for place, condition in enumerate(node.ifs):
            yield Mutant(condition.lineno, f"without `if {_short(condition)}`", partial(_remove, node.ifs, place))
    elif isinstance(node, ast.Starred | ast.GeneratorExp):
        pass
    else:
        yield from _of_statement(node, line, instead)


def _of_statement(node: ast.AST, line: int, instead: Callable[[str, ast.AST], Mutant]) -> Iterator[Mutant]:
    if isinstance(node, ast.If | ast.While):
        for value in (True, False):
            yield Mutant(
                line,
                f"the condition is {value}",
                partial(setattr, node, "test", ast.Constant(value, lineno=line, col_offset=0)),
            )
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield instead("returns None", ast.Return(ast.Constant(None)))
    elif isinstance(node, ast.Raise | ast.Continue | ast.Break | ast.Expr | ast.AugAssign) or (
        isinstance(node, ast.Assign) and all(isinstance(each, ast.Attribute | ast.Subscript) for each in node.targets)
    ):
        yield instead(f"without `{_short(node)}`", ast.Pass())


def _other_constants(value: object) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1]
    if isinstance(value, str):
        return [""] if value else ["other"]
    if isinstance(value, bytes):
        return [b"" if value else b"other"]
    return []


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:60]


def _set(values: list[Any], place: int, new: ast.AST) -> None:
    values[place] = new


def _remove(values: list[Any], place: int) -> None:
    del values[place]
