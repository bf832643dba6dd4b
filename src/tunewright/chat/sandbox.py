"""Jinja that always terminates: the sandbox that transformers renders chat templates with, and a budget for each rendering.

    with budget(num_characters=20_000):
        environment.from_string("{% for i in range(99999) %}…").render(…)      TooMuch, not a process that hangs

A template comes with a model that somebody else made. The budget is spent inside the environment, without signals or threads: every
loop iteration, macro call, filter, test, operator and output pays for its values before it processes them. What a template
writes does not change. Random filters are removed: the same row must always become the same text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import GeneratorType
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateRuntimeError
from jinja2.filters import FILTERS
from jinja2.runtime import LoopContext, Undefined, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

_STEPS, _STEPS_A_CHARACTER = 1_500_000, 30
"""What a rendering may cost, in nodes of the template run; a long conversation may cost more."""
_TEXT, _TEXTS_A_CHARACTER = 4_000_000, 8
"""Characters of one text, and of the whole output."""
_CHARACTERS_A_STEP = 16
_CALL, _TURN = 10, 3
_BITS, _WIDEST, _DEEPEST = 4_096, 10_000, 50
"""Maximum bits of an integer, padding width, and nesting of lazy filters."""
_SMALL = 1 << 60
_SLOW_TEXT = 20_000
"""Maximum length of a text for filters whose time grows faster than the text."""
_SLOW = ("urlize", "striptags", "wordwrap", "xmlattr", "pprint", "title", "wordcount")
_RANDOM = ("random",)
_LAZY = ("map", "select", "reject", "selectattr", "rejectattr", "first", "last", "length", "count", "default", "d", "attr", "items",
         "list", "reverse", "batch", "slice", "safe", "int", "float", "abs", "round")  # fmt: skip
"""Filters that do not look into the values of a list."""
_EACH = ("map", "select", "reject", "selectattr", "rejectattr")
"""Filters that run another filter or test for each value."""
_PADS = ("ljust", "rjust", "center", "zfill", "expandtabs")
_ENDS = ("startswith", "endswith", "removeprefix", "removesuffix")
_NO_METHODS = ("encode", "decode", "translate", "maketrans", "to_bytes", "from_bytes", "fromhex")


class TooMuch(TemplateRuntimeError):
    """A template that would take too long, or write too much."""


class _Budget:
    __slots__ = ("longest", "steps", "written")

    def __init__(self, num_characters: int) -> None:
        self.steps = _STEPS + _STEPS_A_CHARACTER * num_characters
        self.longest = _TEXT + _TEXTS_A_CHARACTER * num_characters
        self.written = 0

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooMuch("it takes too many steps: its loops or macros may never end")

    def text(self, length: int) -> None:
        """A text of so many characters is to be made."""
        if length > self.longest:
            raise TooMuch(f"it makes a text of more than {self.longest:,} characters")
        self.spend(1 + length // _CHARACTERS_A_STEP)

    def output(self, length: int) -> None:
        self.written += length
        self.text(max(length, self.written if self.written > self.longest else 0))


_current: ContextVar[_Budget | None] = ContextVar("template_budget", default=None)


def _budget() -> _Budget:
    found = _current.get()
    if found is None:
        found = _Budget(0)
        _current.set(found)
    return found


@contextmanager
def budget(num_characters: int) -> Iterator[None]:
    """What is rendered within may cost so much. num_characters: length of what is rendered."""
    token = _current.set(_Budget(num_characters))
    try:
        yield
    finally:
        _current.reset(token)


def _weigh(value: Any, *, deep: bool = True) -> int:
    """Pay for a value and everything in it; gives its approximate length as text."""
    purse, length = _budget(), 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (str, bytes)):
            length += len(one)
            purse.spend(1 + len(one) // _CHARACTERS_A_STEP)
            continue
        purse.spend(1)
        length += 8
        if isinstance(one, Mapping):
            purse.spend(len(one))
            inside: Any = [*one.keys(), *one.values()] if deep else ()
        elif isinstance(one, (list, tuple, set, frozenset)) or type(one) in _VIEWS:
            purse.spend(len(one))
            inside = one if deep else ()
        elif deep and isinstance(one, Namespace):
            purse.spend(4)
            inside = object.__getattribute__(one, "_Namespace__attrs").values()
        elif isinstance(one, int) and one.bit_length() > _BITS:
            raise TooMuch(f"it makes a number of more than {_BITS:,} bits")
        else:
            continue
        waiting.extend(inside)
    return length


_LIGHT, _SHORT = (type(None), bool, float, Undefined), 256
"""Values that cost nothing extra to read."""
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


class _LazyResults:
    """The lazy results of a filter, each paid for."""

    def __init__(self, values: Iterator[Any], depth: int) -> None:
        self.values, self.depth = values, depth

    def __iter__(self) -> _LazyResults:
        return self

    def __next__(self) -> Any:
        found = next(self.values)
        _weigh(found, deep=False)
        return found


# Filters that are inserted into a template's own code, since Jinja calls filters fastest. A template cannot write their names
# after `|`; taking the context keeps Jinja from evaluating them at compile time.
_STEP, _LOOK, _COMPARE, _JOIN = "limit: step", "limit: look", "limit: compare", "limit: join"


@pass_context
def _step(context: Any, cost: int) -> bool:
    """Runs before the body of every loop and macro. True, so that it can be part of a condition."""
    _budget().spend(abs(cost))
    return True


@pass_context
def _look(context: Any, value: Any) -> Any:
    """Around operands: the value, paid for."""
    if type(value) not in _LIGHT and (type(value) is not str or len(value) > _SHORT):
        _weigh(value, deep=False)
    return value


@pass_context
def _look_within(context: Any, value: Any) -> Any:
    """The same, including everything in the value."""
    if type(value) not in _LIGHT and (type(value) is not str or len(value) > _SHORT):
        _weigh(value)
    return value


@pass_context
def _join(context: Any, *values: Any) -> str:
    """In place of `a ~ b`."""
    _budget().text(sum(map(_weigh, values)))
    return str_join(values)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox; every step of a template is paid for from the current `budget`."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=_written, **options)
        self.globals.pop("lipsum", None)
        self.filters = {name: limited_filter(name, one) for name, one in FILTERS.items() if name not in _RANDOM}
        self.filters |= {_STEP: _step, _LOOK: _look, _COMPARE: _look_within, _JOIN: _join}
        self.tests = {name: _limited_test(one) for name, one in TESTS.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _AddPayments().visit(tree)
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is str and type(right) is str:
            _budget().text(len(left) + len(right))
            return left + right
        if type(left) is int and type(right) is int and operator in "+-" and -_SMALL < left < _SMALL > right > -_SMALL:
            return self.binop_table[operator](left, right)
        _check_operands(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, (str, list, tuple)):
            _weigh(result, deep=False)
        return result

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        purse = _budget()
        purse.spend(_CALL + len(args))
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, (str, bytes, int, float)):
            args = _checked_method(owner, __obj.__name__, args, kwargs)
        else:
            deep = isinstance(owner, (dict, list, tuple, LoopContext))
            for one in args:
                _weigh(one, deep=deep)
            if isinstance(owner, (list, tuple)):
                _weigh(owner)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, str):
            purse.text(len(result))
        elif isinstance(result, (list, tuple, dict)):
            _weigh(result, deep=False)
        return result

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            _check_format(value.__self__, "{", [*args, *kwargs.values()])
            return wrapped(*args, **kwargs)

        return checked

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            _weigh(argument)
        return super().getitem(obj, argument)


def _written(value: Any) -> Any:
    """A value that goes into the output."""
    if type(value) is str and len(value) <= _SHORT:
        purse = _budget()
        purse.written += len(value)
        if purse.written <= purse.longest:
            return value
    _budget().output(len(value) if isinstance(value, str) else _weigh(value))
    return value


# What the source of a template pays


class _AddPayments(NodeTransformer):
    """Inserts the payments: a step at the start of every loop, macro and block, by the size of its body; a look at operands that may be long."""

    def _begun(self, node: Any) -> Any:
        cost = sum(map(_nodes_in, node.body))
        self.generic_visit(node)
        step = nodes.ExprStmt(_ours(_STEP, nodes.Const(_TURN + cost)))
        node.body.insert(0, step.set_lineno(node.lineno))
        return node

    def visit_For(self, node: nodes.For) -> Any:
        self._begun(node)
        if node.test is not None:
            node.test = nodes.And(_ours(_STEP, nodes.Const(_TURN + _nodes_in(node.test))), node.test)
        return node.set_lineno(node.lineno, override=False)

    visit_Macro = visit_CallBlock = visit_Block = _begun

    def visit_Concat(self, node: nodes.Concat) -> Any:
        self.generic_visit(node)
        return _ours(_JOIN, *node.nodes).set_lineno(node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> Any:
        self.generic_visit(node)
        node.expr = _looked(_COMPARE, node.expr)
        for operand in node.ops:
            operand.expr = _looked(_COMPARE, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> Any:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _looked(_LOOK, node.node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> Any:
        self.generic_visit(node)
        node.key = _looked(_COMPARE, node.key)
        return node


def _ours(name: str, value: nodes.Expr, *others: nodes.Expr) -> Any:
    return nodes.Filter(value, name, list(others), [], None, None).set_lineno(value.lineno or 1)


def _looked(name: str, node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _ours(name, node)


def _nodes_in(node: nodes.Node) -> int:
    """Number of nodes that one iteration runs; nested loops and macros pay for their own bodies."""
    found = 1 + (len(node.data) // _CHARACTERS_A_STEP if isinstance(node, nodes.TemplateData) else 0)
    skipped = ("body",) if isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)) else ()
    return found + sum(_nodes_in(child) for child in node.iter_child_nodes(exclude=skipped))


# Operators, methods, filters


def _check_operands(operator: str, left: Any, right: Any) -> None:
    purse = _budget()
    purse.spend(2)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length(), right.bit_length()
        exponent = max(0, right) if operator == "**" and bits[0] > 1 else 1
        size = sum(bits) if operator == "*" else bits[0] * exponent if operator == "**" else max(bits)
        if max(size, bits[0]) > _BITS:
            raise TooMuch(f"it makes a number of more than {_BITS:,} bits")
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, (str, bytes, list, tuple)) and isinstance(times, int):
                _take(many, len(many) * max(0, times))
    elif operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
        _take(left, len(left) + len(right))
    elif operator == "%" and isinstance(left, (str, bytes)):
        _check_format(str(left), "%", right if isinstance(right, tuple) else (right,))


def _take(kind: Any, length: int) -> None:
    """A text or list of this length is to be made."""
    _budget().text(length) if isinstance(kind, (str, bytes)) else _budget().spend(length)


def _checked_method(owner: Any, name: str, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """The arguments of a method of a text or number. TooMuch where its result would be too large."""
    if name in _NO_METHODS or not isinstance(owner, (str, int, float)):
        raise TooMuch(f"it calls {type(owner).__name__}.{name}, which templates may not")
    purse, values = _budget(), [*args, *kwargs.values()]
    if isinstance(owner, (int, float)):
        return args
    if name in _PADS:
        _check_widths(values)
        purse.text(len(owner) * 2 if name != "expandtabs" else len(owner) + owner.count("\t") * _widest(values))
    elif name == "join" and args:
        args = (list(args[0]) if not isinstance(args[0], (str, list, tuple)) else args[0], *args[1:])
        purse.text(sum(map(_weigh, args[0])) + len(owner) * len(args[0]))
    elif name == "replace" and len(values) > 1:
        _check_replace(owner, values[0], values[1])
    elif name not in _ENDS:
        others = sum(len(one) for one in values if isinstance(one, str))
        purse.spend(1 + len(owner) * max(1, others) // (4 * _CHARACTERS_A_STEP))
    return args


def _check_replace(text: Any, old: Any, new: Any) -> None:
    if isinstance(text, str) and isinstance(old, str) and isinstance(new, str):
        _budget().text(len(text) + text.count(old) * max(0, len(new) - len(old)))


def _check_widths(values: Any) -> None:
    if _widest(values) > _WIDEST:
        raise TooMuch(f"it pads to {_widest(values):,} characters; at most {_WIDEST:,} are allowed")


def _widest(values: Any) -> int:
    return max((abs(one) for one in values if isinstance(one, int)), default=0)


def _check_format(form: str, sign: str, values: Any) -> None:
    """Pay for a format string: its stated widths, and each placeholder as long as all values together."""
    if re.search(r"\d{5}", form):
        raise TooMuch(f"it pads to a width of five digits; at most {_WIDEST:,} characters are allowed")
    if "*" in form or re.search(r"\{[^{}]*\{", form):
        _check_widths(values)
    _budget().text(len(form) + form.count(sign) * (_WIDEST * ("*" in form) + _weigh(list(values))))


def limited_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for its input and output."""
    first = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0
    check = _FILTER_CHECKS.get(name)

    @functools.wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        others = args[first + 1 :]
        _budget().spend(_CALL)
        if name in ("default", "d"):
            return function(*args, **kwargs)
        size = _weigh(value, deep=name not in _LAZY)
        _check_widths((*others, *kwargs.values()))
        if name in _SLOW and size > _SLOW_TEXT:
            raise TooMuch(f"its filter {name} gets {size:,} characters; at most {_SLOW_TEXT:,} are allowed")
        if name in _EACH and hasattr(value, "__len__"):
            _budget().spend(_CALL * len(value))
        depth = 1 + getattr(value, "depth", 0) if isinstance(value, _LazyResults) else 1
        if depth > _DEEPEST:
            raise TooMuch(f"more than {_DEEPEST} of its filters are nested")
        if check is not None:
            if isinstance(value, (_LazyResults, GeneratorType)):
                value = list(value)
                args = (*args[:first], value, *others)
                size = _weigh(value)
            check(value, size, others, kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, str):
            _budget().text(len(result))
        elif isinstance(result, Iterator):
            return _LazyResults(result, depth)
        elif isinstance(result, (list, tuple, dict)):
            _weigh(result, deep=False)
        return result

    return limited


def _joined(value: Any, size: int, others: Any, kwargs: Mapping[str, Any]) -> None:
    glue = next((one for one in (*others, *kwargs.values()) if isinstance(one, str)), "")
    _budget().text(size + len(glue) * (len(value) if hasattr(value, "__len__") else 0))


def _replaced(value: Any, size: int, others: Any, kwargs: Mapping[str, Any]) -> None:
    old, new = [*others, kwargs.get("old"), kwargs.get("new")][:2] if len(others) > 1 else (
        others[0] if others else kwargs.get("old"), kwargs.get("new"))  # fmt: skip
    _check_replace(str(value), str(old), str(new))


def _indented(value: Any, size: int, others: Any, kwargs: Mapping[str, Any]) -> None:
    width = others[0] if others else kwargs.get("width", 4)
    lines = value.count("\n") + 1 if isinstance(value, str) else 1
    _budget().text(size + lines * (len(width) if isinstance(width, str) else _widest([width])))


def _as_json(value: Any, size: int, others: Any, kwargs: Mapping[str, Any]) -> None:
    widest = _widest([*others, *kwargs.values()])
    if widest > 64:
        raise TooMuch(f"its filter tojson indents by {widest:,} characters; at most 64 are allowed")
    _budget().text(6 * size if widest else size)


def _formatted(value: Any, size: int, others: Any, kwargs: Mapping[str, Any]) -> None:
    _check_format(str(value), "%", (*others, *kwargs.values()))


def _summed(value: Any, size: int, others: Any, kwargs: Mapping[str, Any]) -> None:
    if any(isinstance(one, (list, tuple)) for one in (*others, *kwargs.values())):
        _budget().spend((len(value) if hasattr(value, "__len__") else 1) * max(1, size))


_FILTER_CHECKS: dict[str, Callable[[Any, int, Any, Mapping[str, Any]], None]] = {
    "join": _joined, "replace": _replaced, "indent": _indented, "tojson": _as_json, "format": _formatted, "sum": _summed,
}  # fmt: skip


def _limited_test(function: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        if len(args) > 1:
            for one in args:
                if type(one) not in _LIGHT:
                    _weigh(one)
        return function(*args, **kwargs)

    return limited
