"""The text of a trace, line by line: packed or not, whatever is wrong with its bytes."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gpumax.formats.parsed import refuse

_GZIP: Final = b"\x1f\x8b"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")
_PEEK: Final = 1 << 16


class Source:
    """An open file. `head`: its first bytes, unpacked. `torn`: why reading ended before its end; `ended`: its last line has an end."""

    def __init__(self, name: str, stream: io.BufferedReader | gzip.GzipFile) -> None:
        self.name = name
        self._stream = stream
        self.torn = ""
        self.ended = True
        self.head = self._first()

    def _first(self) -> bytes:
        head = b""
        while len(head) < _PEEK and (block := self.read(_PEEK - len(head))):
            head += block
        if self.torn and not head:
            raise refuse(self.name, None, f"a .gz file that can't be unpacked ({self.torn})", "a whole one")
        if not head.strip(b"\xef\xbb\xbf\r\n\t "):
            raise refuse(self.name, None, "nothing in it", "a trace")
        if head.startswith(_WIDE):
            raise refuse(self.name, 1, "text in UTF-16", "text in UTF-8")
        zero = head.find(b"\0")
        if zero >= 0:
            found = f"a NUL byte at byte {zero}"
            raise refuse(self.name, head.count(b"\n", 0, zero) + 1, found, "text")
        return head

    def read(self, most: int) -> bytes:
        """The next bytes; none at the end, which is also where the packing is broken."""
        if self.torn:
            return b""
        try:
            return self._stream.read1(min(most, 1 << 20))
        except (EOFError, OSError, zlib.error) as error:
            self.torn = str(error)
            return b""

    def lines(self) -> Iterator[str]:
        """Each line with its end."""
        line = "\n"
        for line in self._text():
            yield line
        self.ended = line.endswith(("\n", "\r"))

    def blocks(self) -> Iterator[str]:
        """The same text in large pieces."""
        text = self._text()
        while block := text.read(1 << 20):
            yield block

    def _text(self) -> io.TextIOWrapper:
        """Bytes that are no UTF-8 become lone surrogates, so that a row can name them."""
        whole = io.BufferedReader(_Chained(self), 1 << 20)
        return io.TextIOWrapper(whole, encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Chained(io.RawIOBase):
    """The bytes that were looked at, then the rest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._head = source.head

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer."""
        data = self._head[: len(buffer)]
        if data:
            self._head = self._head[len(data) :]
        else:
            data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def opened(path: Path | str) -> Iterator[Source]:
    """A file, or `-` for standard input; unpacked where it is gzip, whatever its name. BadFile where it can't be read."""
    name = "standard input" if str(path) == "-" else str(path)
    raw = _stream(path, name)
    try:
        packed = raw.peek(2)[:2] == _GZIP
        yield Source(name, gzip.GzipFile(fileobj=raw) if packed else raw)
    finally:
        if str(path) == "-":
            raw.detach()
        else:
            raw.close()


def _stream(path: Path | str, name: str) -> io.BufferedReader:
    if str(path) == "-":
        return io.BufferedReader(sys.stdin.buffer)  # type: ignore[arg-type]
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise refuse(name, None, "no such file", "a file that is there") from None
    except IsADirectoryError:
        raise refuse(name, None, "a directory", "a file") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise refuse(name, None, f"a file that can't be read ({why})", "a readable file") from None
