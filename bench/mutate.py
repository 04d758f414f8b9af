"""Small faults that somebody could have written into a module: the sites of a syntax tree, one change each.

Names, text, annotations and docstrings are left alone; so is what can only fail at once, such as a name that is gone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COUNTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_NEVER: Final = ("annotation", "returns", "decorator_list", "bases")


class Site(NamedTuple):
    """A change of a tree.

    apply: make it. mark: note a number, by a call of MARK, whenever the statement around it is reached; None outside of all
    functions.
    """

    line: int
    apply: Callable[[], None]
    mark: Callable[[int], None] | None


MARK: Final = "__reached__"


def sites(tree: ast.Module) -> list[Site]:
    """Every change that a module allows, in the same order for the same text."""
    return list(_within(tree, None))


def _within(node: ast.AST, mark: Callable[[int], None] | None) -> Iterator[Site]:
    """mark: of the statement around it, where that is in a function."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return  # rows of unequal length fail at once, so there are none
    for where, apply in _changes(node):
        yield Site(getattr(where, "lineno", 0), apply, mark)
    inside = mark is not None or isinstance(node, ast.FunctionDef)
    for name, value in ast.iter_fields(node):
        rows = value if isinstance(value, list) else [value]
        for child in rows if name not in _NEVER else ():
            if isinstance(child, ast.stmt):
                here = _marker(rows, child) if inside else None
                for at, apply in _removals(rows, child):
                    yield Site(at.lineno, apply, here)
                yield from _within(child, here)
            elif isinstance(child, ast.AST):
                # Defaults are read when a function is defined.
                outside = isinstance(node, ast.FunctionDef) and name == "args"
                yield from _within(child, None if outside else mark)


def _marker(rows: list[ast.stmt], statement: ast.stmt) -> Callable[[int], None]:
    def mark(number: int) -> None:
        call = ast.Call(ast.Name(MARK, ast.Load()), [ast.Constant(number)], [])
        rows.insert(rows.index(statement), ast.copy_location(ast.Expr(call), statement))

    return mark


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, Callable[[], None]]]:
    match node:
        case ast.Compare():
            for at, op in enumerate(node.ops):
                yield node, _item(node.ops, at, _COMPARED[type(op)]())
        case ast.BoolOp():
            yield node, _field(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not()):
            yield node, _field(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.UnaryOp(op=ast.USub()):
            yield node, _field(node, "op", ast.UAdd())
        case ast.BinOp() | ast.AugAssign() if type(node.op) in _COUNTED:
            yield node, _field(node, "op", _COUNTED[type(node.op)]())
        case ast.Constant(value=bool(value)):
            yield node, _field(node, "value", not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, _field(node, "value", value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
            yield node, _field(node.func, "id", _CALLED[name])
        case ast.If() | ast.IfExp():
            yield node.test, _field(node, "test", ast.Constant(False))
        case ast.comprehension():
            for at, test in enumerate(node.ifs):
                yield test, _item(node.ifs, at, ast.Constant(True))
        case _:
            pass


def _removals(rows: list[ast.stmt], row: ast.stmt) -> Iterator[tuple[ast.stmt, Callable[[], None]]]:
    """Calls for their effect, and `continue`."""
    if isinstance(row, ast.Continue) or (isinstance(row, ast.Expr) and isinstance(row.value, ast.Call)):
        yield row, _item(rows, rows.index(row), ast.Pass())


def _item(rows: list[T], at: int, new: T) -> Callable[[], None]:
    def apply() -> None:
        rows[at] = new

    return apply


def _field(node: ast.AST, name: str, new: object) -> Callable[[], None]:
    return lambda: setattr(node, name, new)


def told(text: str, number: int) -> str:
    """A change in words: its line, and what stands there before and after."""
    line = sites(ast.parse(text))[number].line
    before, after = (ast.unparse(tree).splitlines() for tree in (ast.parse(text), changed(text, number)))
    was, now = next(
        (pair for pair in zip_longest(before, after, fillvalue="") if pair[0] != pair[1]), ("", "")
    )
    return f"{line}: {was.strip()}  ->  {now.strip()}"


def changed(text: str, number: int) -> ast.Module:
    """The module with one change."""
    tree = ast.parse(text)
    sites(tree)[number].apply()
    return ast.fix_missing_locations(tree)


def marked(text: str, marks: dict[int, int]) -> ast.Module:
    """The module with the statements around these changes marked, each by a number."""
    tree = ast.parse(text)
    found = sites(tree)
    for number, note in marks.items():
        mark = found[number].mark
        if mark is not None:
            mark(note)
    return ast.fix_missing_locations(tree)
