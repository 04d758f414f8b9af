"""Text of strangers on a terminal: colours and lines, and nothing else that the terminal would act on."""

from __future__ import annotations

import codecs
import re
from typing import Final

_ACTS: Final = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # moves, clears, asks
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, clipboards, links
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<line>\r\n?)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""What a terminal acts on. A lone carriage return would let later text stand over earlier; it becomes a line."""

_BEGUN: Final = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|\r)\Z")
"""A sequence that the next piece may complete."""

_LONGEST: Final = 4096
"""Characters of a sequence that is waited for."""

_RESET: Final = "\x1b[0m"


class Harmless:
    """Makes pieces of a text harmless, one after the other; a sequence may be spread over several."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        self._coloured = False

    def bytes(self, piece: bytes) -> str:
        """What of these bytes may be shown now."""
        return self.text(self._decoder.decode(piece))

    def text(self, piece: str) -> str:
        """What of this text may be shown now."""
        whole = self._begun + piece
        begun = _BEGUN.search(whole)
        self._begun = begun[0] if begun is not None and len(begun[0]) < _LONGEST else ""
        return _ACTS.sub(self._shown, whole[: len(whole) - len(self._begun)])

    def end(self) -> str:
        """What is left, and the terminal's own colours again."""
        left = self.bytes(b"\n") if self._begun == "\r" else ""
        return left + (_RESET if self._coloured else "")

    def _shown(self, match: re.Match[str]) -> str:
        if match["line"]:
            return "\n"
        self._coloured = self._coloured or bool(match["colour"])
        return match["colour"] or ""
