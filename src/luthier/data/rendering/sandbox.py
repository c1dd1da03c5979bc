"""The sandbox that chat templates run in: immutable, and bounded in work, size and time.

A template comes from a stranger.  Jinja's immutable sandbox keeps it from our objects; this one also
stops what never ends or never stops growing: every turn of a loop and every call costs from one
budget, every string that an operator, a filter or a method makes is measured before it is made.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_SOURCE = 1 << 20  # characters of a template
MAX_TEXT = 1 << 24  # characters of any string a template makes
MAX_WORK = 1_000_000  # loop turns and calls of one rendering
MAX_SECONDS = 10.0
_CALL = 5  # a call costs about as much as this many turns of a loop

_GROWING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate"}
)
_REMOVED_FILTERS = (
    "center",
    "format",
    "filesizeformat",
    "pprint",
    "random",
    "urlize",
    "wordwrap",
    "xmlattr",
)


class LimitReached(jinja2.exceptions.TemplateError):
    """The template asked for more work, text or time than it may have."""


class Meter:
    """What one rendering has used up."""

    def __init__(self) -> None:
        self.work = 0
        self.deadline = time.monotonic() + MAX_SECONDS

    def tick(self, amount: int = 1) -> None:
        before, self.work = self.work, self.work + amount
        if self.work > MAX_WORK:
            raise LimitReached(f"it takes more than {MAX_WORK} loop turns and calls")
        if before >> 10 != self.work >> 10 and time.monotonic() > self.deadline:
            raise LimitReached(f"it takes more than {MAX_SECONDS:.0f} seconds")


METER: ContextVar[Meter | None] = ContextVar("METER", default=None)


def _tick(amount: int = 1) -> None:
    if (meter := METER.get()) is not None:
        meter.tick(amount)


def measured(length: int) -> None:
    """Refuse a string of this many characters if that is too long."""
    if length > MAX_TEXT:
        raise LimitReached(f"it makes a text of more than {MAX_TEXT} characters")


class _Counted:
    """An iterable whose every element costs one unit of work."""

    def __init__(self, inner: Iterable[Any]) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        for item in self._inner:
            _tick()
            yield item

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # TypeError where the inner has none, as Jinja expects


def _counted(value: Any) -> Any:
    """What a `for` runs over; an undefined variable is empty, as in Jinja."""
    return _Counted(value)


def _joined(*parts: Any) -> str:
    """The operator `~`."""
    return _concat(map(str, parts))


class _Measuring(NodeTransformer):
    """Puts the counting into loops and the measuring into `~`, which Jinja gives no hook for."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  named by jinja
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        first, *rest = node.nodes
        return nodes.Filter(first, "_joined", rest, [], None, None, lineno=node.lineno)


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

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            optimized=False,  # constants are folded while rendering, where they are measured
            cache_size=0,
        )
        for name in _REMOVED_FILTERS:
            self.filters.pop(name, None)
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name, None)
        self.filters["tojson"] = _tojson
        self.filters["indent"] = self._bounded_filter("indent")
        self.filters["replace"] = _replace
        self.filters["join"] = self._bounded_filter("join")
        self.filters["_counted"] = _counted
        self.filters["_joined"] = _joined
        self.globals["raise_exception"] = _raise_exception
        self.globals["namespace"] = _SafeNamespace
        self.globals["dict"] = _plain_dict
        self.concat = _concat  # type: ignore[method-assign]  # a hook of Environment, on our own instance

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Measuring().visit(super()._parse(source, name, filename))
        assert isinstance(tree, nodes.Template)
        tree.set_environment(self)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _measure_binop(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        _tick(_CALL)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            if name in _GROWING:
                raise jinja2.exceptions.SecurityError(f"the method {name} of text is not allowed")
            _tick(len(owner) >> 12)
            if name == "replace" and len(args) >= 2:
                _measure_replace(owner, args[0], args[1])
            if name == "join" and args:
                args = (_listed(owner, args[0]), *args[1:])
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if getattr(value, "__name__", "") in ("format", "format_map"):
            raise jinja2.exceptions.SecurityError("the method format of text is not allowed")
        return None

    def _bounded_filter(self, name: str) -> Callable[..., Any]:
        inner = self.filters[name]

        def indent(value: Any, width: Any = 4, *args: Any, **kwargs: Any) -> Any:
            size = len(width) if isinstance(width, str) else int(width)
            measured(len(str(value)) + (str(value).count("\n") + 1) * abs(size))
            return inner(value, width, *args, **kwargs)

        @jinja2.pass_eval_context
        def join(context: Any, value: Any, d: Any = "", attribute: Any = None) -> Any:
            return inner(context, _listed(str(d), value), d, attribute)

        return indent if name == "indent" else join


def _measure_binop(operator: str, left: Any, right: Any) -> None:
    _tick()
    if (
        operator == "+"
        and isinstance(left, (str, list, tuple))
        and isinstance(right, (str, list, tuple))
    ):
        measured(len(left) + len(right))
        _tick((len(left) + len(right)) >> 12)
    elif operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                measured(len(many) * max(times, 0))
    if operator in ("*", "**"):
        for number in (left, right):
            if isinstance(number, int) and number.bit_length() > 256:
                raise LimitReached("it computes with a number of more than 256 bits")
    if operator == "**" and isinstance(right, int) and right > 256:
        raise LimitReached("it raises a number to a power above 256")
    if operator == "%" and isinstance(left, str):
        raise jinja2.exceptions.SecurityError("formatting with % is not allowed")


def _listed(separator: str, values: Any) -> list[Any]:
    items = list(values)
    _tick(len(items))
    measured(sum(len(separator) + len(str(item)) for item in items))
    return items


def _measure_replace(text: str, old: Any, new: Any) -> None:
    times = text.count(str(old)) if str(old) else len(text) + 1
    measured(len(text) + times * len(str(new)))


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = str(value), str(old), str(new)
    _measure_replace(text, old, new)
    return text.replace(old, new, -1 if count is None else count)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without HTML escapes, as the templates expect."""
    if isinstance(indent, int) and not 0 <= indent <= 16:
        raise LimitReached(f"it indents JSON by {indent}")
    if isinstance(value, jinja2.Undefined):
        raise jinja2.exceptions.UndefinedError("tojson of a variable that is not defined")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _concat(parts: Iterable[str]) -> str:
    kept: list[str] = []
    length = 0
    for part in parts:
        length += len(part)
        measured(length)
        kept.append(part)
    return "".join(kept)


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.exceptions.TemplateError(str(message))


def _plain_dict(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return dict(*args, **kwargs)


def plain(value: Any) -> Any:
    """A copy made of exact JSON types only: what a template may be shown."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"a template cannot be given a {type(value).__name__}")
