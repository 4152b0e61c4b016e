"""What an option of a configuration takes: numbers in a range, switches, texts."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Holds the values that an option takes: numbers from `low` to `high`, whole ones unless `real`.

    above, below: whether `low` and `high` themselves are left out. null: whether null is a value. many: whether a list
    of such numbers is (or has to be, where `one` is false).
    """

    low: float = -math.inf
    high: float = math.inf
    real: bool = False
    above: bool = False
    below: bool = False
    null: bool = False
    many: bool = False
    one: bool = True

    def takes(self, value: Any) -> bool:
        """Return whether `value`, a resolved value of a configuration, is in the range."""
        if value is None:
            return self.null
        if isinstance(value, list):
            return self.many and len(value) > 0 and all(self._takes_number(item) for item in value)
        return self.one and self._takes_number(value)

    def _takes_number(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float if self.real else int):
            return False
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and low and high

    def __str__(self) -> str:
        kind = "a number" if self.real else "a whole number"
        low = "" if math.isinf(self.low) else f"{'above' if self.above else 'at least'} {self.low:g}"
        high = "" if math.isinf(self.high) else f"{'below' if self.below else 'at most'} {self.high:g}"
        bounds = " and ".join(bound for bound in (low, high) if bound)
        text = f"{kind} {bounds}".rstrip()
        if self.many:
            text = f"{text}, or a list of them" if self.one else f"a list, each {text}"
        return f"{text}, or null" if self.null else text


@dataclass(frozen=True)
class Switch:
    """Takes true or false; or null, which leaves the choice to the program."""

    null: bool = False

    def takes(self, value: Any) -> bool:
        """Return whether `value` is true, false or an allowed null."""
        return isinstance(value, bool) or (self.null and value is None)

    def __str__(self) -> str:
        return "true, false or null" if self.null else "true or false"


@dataclass(frozen=True)
class Text:
    """A text, one of `words` where there are any; or null, or a list of texts (`many`), or what `other` takes.

    built: whether a list may also hold nodes of which objects are built.
    """

    words: tuple[str, ...] = ()
    null: bool = False
    many: bool = False
    built: bool = False
    other: Range | None = None

    def takes(self, value: Any) -> bool:
        """Return whether `value` is such a text."""
        if isinstance(value, list):
            known = self.many and all(map(self._takes_text, value))
        else:
            known = self.null if value is None else isinstance(value, str) and self._takes_text(value)
        return known or (self.other is not None and self.other.takes(value))

    def _takes_text(self, value: Any) -> bool:
        if isinstance(value, dict):
            return self.built and "_target_" in value
        return isinstance(value, str) and (value in self.words if self.words else value != "")

    def __str__(self) -> str:
        text = f"one of {', '.join(self.words)}" if self.words else "a text"
        text += f", or a list of {'these' if self.words else 'texts'}" if self.many else ""
        text += " and of nodes with a _target_" if self.built else ""
        text += f", or {self.other}" if self.other is not None else ""
        return f"{text}, or null" if self.null else text


Kind = Range | Switch | Text
