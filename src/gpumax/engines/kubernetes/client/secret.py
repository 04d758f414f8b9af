"""A word that nobody should read by chance: not in logs, not in tracebacks, not in what a debugger prints."""

from __future__ import annotations

from typing import Final


class Secret:
    """Holds a token or a key. Only `reveal` gives it away, so that every place which does can be found."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """What is hidden."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(...)" if self._text else "Secret()"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a secret is never written down")


NOTHING: Final = Secret("")
