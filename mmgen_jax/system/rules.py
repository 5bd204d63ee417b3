"""What a value may be: a test and the words that say so in an error, "it must be ..."."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from unicodedata import category

from mmgen_jax.system.errors import UsageError, shown

T = TypeVar("T")

LARGEST = 2**31  # integers stay below: they become int32
FLOAT_MAX, FLOAT_TINY = 3.4028234e38, 1.1754944e-38  # numbers become float32, in which others are infinite or 0


class Rule(NamedTuple):
    """A test of one value.

    Attributes:
      allows: value -> whether it may be; takes values of any type.
      words: what it must be, as the end of the sentence "it must be ...".
      values: all that it may be, as words of a command line, where these are few.
    """

    allows: Callable[[Any], bool]
    words: str
    values: tuple[str, ...] = ()


def require(name: str, value: object, rule: Rule) -> None:
    """Raises UsageError with the name, the value and what is allowed, if the value breaks the rule."""
    if not rule.allows(value):
        raise UsageError(f"{name} is {shown(value)}; it must be {rule.words}")


def setting(default: T, allowed: Rule, meaning: str) -> T:
    """A field of a section that is one setting; typed as its value, as `dataclasses.field` is."""
    return dataclasses.field(default=default, metadata={"allowed": allowed, "meaning": meaning})


def declared(section: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, object]]:
    """(dotted name, field, value) of every setting of a section and of the sections in it, in order."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from declared(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def rules(section: object) -> dict[str, Rule]:
    """Dotted name of every setting of a section, and of the sections in it -> what that setting may be."""
    return {name: field.metadata["allowed"] for name, field, _ in declared(section)}


def checked(kind: type[T], values: Mapping[str, Any]) -> T:
    """A value whose fields are settings. Raises UsageError, naming it, for one that is not allowed."""
    made = kind(**values)
    for name, rule in rules(made).items():
        require(name, values[name], rule)
    return made


def number(low: float, high: float = FLOAT_MAX) -> Rule:
    """A number that float32 holds, both limits included. NaN and infinity are refused."""
    words = f"a number {low:g} to {high:g}" if high < FLOAT_MAX else f"a finite number of at least {low:g}, in float32"
    return Rule(lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high, words)


def integer(low: int, high: int = LARGEST - 1) -> Rule:
    """An integer, both limits included, that fits int32."""
    words = f"an integer {low} to {high}" if high < LARGEST - 1 else f"an integer of at least {low} and below 2^31"
    return Rule(lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high, words)


def one_of(*allowed: str) -> Rule:
    """One of some texts."""
    return Rule(lambda v: isinstance(v, str) and v in allowed, "one of " + ", ".join(allowed), allowed)


def some_of(*allowed: str) -> Rule:
    """A tuple of some of the texts, in their order; not empty."""
    return Rule(
        lambda v: each(TEXT).allows(v) and len(v) > 0 and list(v) == [name for name in allowed if name in v],
        f"a tuple of some of {', '.join(allowed)}, in this order",
    )


def each(item: Rule, length: int | None = None) -> Rule:
    """A tuple whose entries all follow one rule; `length` is the number of entries, None means any number."""
    count = "any number of" if length is None else str(length)
    return Rule(
        lambda v: isinstance(v, tuple) and (length is None or len(v) == length) and all(map(item.allows, v)),
        f"a tuple of {count} entries, each {item.words}",
    )


def rows(words: str, *columns: Rule, optional: Sequence[Rule] = ()) -> Rule:
    """A tuple of at least one row. `words` describes a row; each column has its own rule, the last may be left out."""
    all_columns = (*columns, *optional)

    def fits(row: object) -> bool:
        if not isinstance(row, tuple | list) or not len(columns) <= len(row) <= len(all_columns):
            return False
        return all(rule.allows(value) for rule, value in zip(all_columns, row, strict=False))

    return Rule(lambda v: isinstance(v, tuple) and len(v) > 0 and all(map(fits, v)), f"a tuple of rows {words}")


TEXT = Rule(  # str.isprintable would also refuse paths with other spaces than " ", and with bytes that are not UTF-8
    lambda v: isinstance(v, str) and not any(category(c) in ("Cc", "Zl", "Zp") for c in v),
    "a text without control characters",
)
SWITCH = Rule(lambda v: isinstance(v, bool), "True or False", ("True", "False"))
POSITIVE = Rule(lambda v: number(0).allows(v) and v >= FLOAT_TINY, "a finite number above 0, in float32")
ADDED = Rule(lambda v: number(FLOAT_TINY, 1).allows(v), "a finite number above 0 and at most 1, in float32")
RATE = Rule(lambda v: number(0, 0).allows(v) or POSITIVE.allows(v), "a finite number of at least 0 that float32 holds")
# Products with gradients and their squares must neither vanish in float32 nor become infinite.
WEIGHT = Rule(lambda v: number(0, 0).allows(v) or number(1e-12, 1e12).allows(v), "a finite number, 0 or 1e-12 to 1e12")
BELOW_ONE = Rule(lambda v: number(0, 1 - 2**-24).allows(v), "a number of at least 0 and below 1, in float32")
INTERVAL = Rule(
    lambda v: each(number(0, 1), 2).allows(v) and v[0] <= v[1], "a tuple (low, high) with 0 <= low <= high <= 1"
)
SIZE_OR_REST = Rule(lambda v: integer(-1).allows(v) and v != 0, "an integer of at least 1, or -1 for what is left")
