"""The sandbox that chat templates run in: immutable, and bounded in work, size and time.

A template comes from a stranger.  Jinja's immutable sandbox keeps it from our objects; this one also
stops what never ends or never stops growing: every turn of a loop and every call costs from one
budget, every string that an operator, a filter or a method makes is measured before it is made.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from luthier.data.rendering.filters import (
    concat,
    filters,
    measure_replace,
    measure_split,
    parts,
    tests,
)
from luthier.data.rendering.values import (
    Counted,
    LimitReached,
    bounded_number,
    made,
    tick,
    write,
    written_length,
)
from luthier.limits import TEMPLATE_BITS

_CALL = 5  # a call costs about as much as this many turns of a loop
_GROWING = frozenset(
    {
        "center",
        "ljust",
        "rjust",
        "zfill",
        "expandtabs",
        "format",
        "format_map",
        "translate",
        "encode",
    }
)
_SPLITTING = frozenset({"split", "rsplit", "splitlines"})
_ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%", "**"})
_OF_DICT = frozenset(dir(dict))
_PLAIN = (str, int, float, bool, type(None), jinja2.Undefined, Macro)


class _Measuring(NodeTransformer):
    """Puts the counting where Jinja gives no hook for it: loops, `~`, comparisons, keys."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  named by jinja
        self.generic_visit(node)
        node.iter = _through("_counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        first, *rest = node.nodes
        return nodes.Filter(first, "_joined", rest, [], None, None, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = _through("_compared", node.expr)
        for operand in node.ops:
            operand.expr = _through("_compared", operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:  # noqa: N802
        self.generic_visit(node)
        node.key = _through("_compared", node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = _through("_compared", node.arg)
        return node


def _through(name: str, node: Any) -> Any:
    """The value of an expression as a filter of ours hands it on; a constant is what it is."""
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: marks assistant text in templates made for TRL.

    luthier finds the assistant's text in another way that works for every template, so the block
    renders its content and nothing else."""

    tags = {"generation"}  # noqa: RUF012  declared so by jinja

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _SafeNamespace(Namespace):
    def __init__(*args: Any, **kwargs: Any) -> None:
        instance, rest = args[0], args[1:]
        values = dict(*rest, **kwargs)
        for name in values:
            _refuse_underscore(name)
        Namespace.__init__(instance, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (`trim_blocks`, `lstrip_blocks`, loop controls, `tojson` with
    arguments, `raise_exception`), within limits."""

    intercepted_binops = _ARITHMETIC

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            optimized=False,  # constants are folded while rendering, where they are measured
            cache_size=0,
            finalize=write,
        )
        self.filters = filters() | {"_counted": Counted}
        self.tests = tests()
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)
        self.globals["raise_exception"] = _raise_exception
        self.globals["namespace"] = _SafeNamespace
        self.globals["dict"] = _plain_dict
        self.concat = concat  # type: ignore[method-assign]  # a hook of Environment, on our own instance

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Measuring().visit(super()._parse(source, name, filename))
        assert isinstance(tree, nodes.Template)
        tree.set_environment(self)
        return tree

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As Jinja's, short for what templates do most: the key of a message."""
        if type(obj) is dict and attribute not in _OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is str and type(right) is str:
            tick()
            made(len(left) + len(right))
            return left + right
        _measure_binop(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        tick(_CALL)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            if name in _GROWING:
                raise jinja2.exceptions.SecurityError(f"the method {name} of text is not allowed")
            tick(len(owner) >> 12)
            if name == "replace" and len(args) >= 2:
                measure_replace(owner, write(args[0]), write(args[1]))
            if name == "join" and args:
                args = (parts(owner, args[0]), *args[1:])
            if name in _SPLITTING:
                measure_split(owner, name, args)
        elif isinstance(owner, int | bytes):
            raise jinja2.exceptions.SecurityError(f"the method {name} is not allowed")
        elif isinstance(owner, list | tuple | dict):
            _measure_method(owner, name, args)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if getattr(value, "__name__", "") in ("format", "format_map"):
            raise jinja2.exceptions.SecurityError("the method format of text is not allowed")
        return None


def _measure_method(owner: Any, name: str, arguments: tuple[Any, ...]) -> None:
    """Count what a method of a list or an object looks at: its arguments, and for some itself."""
    for value in arguments:
        if not isinstance(value, _PLAIN):
            written_length(value)
    if name in ("count", "index"):
        written_length(owner)
    elif name == "copy":
        made(len(owner))


def _measure_binop(operator: str, left: Any, right: Any) -> None:
    tick()
    for number in (left, right):
        if isinstance(number, int):
            bounded_number(number)
    many = (str, list, tuple)
    if operator == "+" and isinstance(left, many) and isinstance(right, many):
        made(len(left) + len(right))
    elif operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(value, many) and isinstance(times, int):
                made(len(value) * max(times, 0))
    if operator == "**" and isinstance(right, int) and right > TEMPLATE_BITS:
        raise LimitReached(f"it raises a number to a power above {TEMPLATE_BITS}")
    if operator == "%" and isinstance(left, str):
        raise jinja2.exceptions.SecurityError("formatting with % is not allowed")


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.exceptions.TemplateError(str(message))


def _plain_dict(*args: object, **kwargs: object) -> dict[str, object]:
    for value in args:
        written_length(value)
    return dict(*args, **kwargs)


def plain(value: Any) -> Any:
    """A copy made of exact JSON types only: what a template may be shown."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is dict or isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"a template cannot be given a {type(value).__name__}")
