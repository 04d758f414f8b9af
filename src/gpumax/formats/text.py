"""Bytes of a file to plain documents that know their lines."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import BinaryIO, Final

from gpumax.errors import BadFile
from gpumax.formats.parsed import LineOf, NotJson, Parsed, no_lines, refuse
from gpumax.units import MIB

MOST_BYTES: Final = 64 << 20
"""The largest file that is read."""

MOST_YAML_BYTES: Final = 8 << 20
"""The largest YAML file that is read; JSON is read many times faster."""


def parse_text(data: bytes, source: str = "") -> list[Parsed]:
    """The documents of a file, JSON or YAML, at least one. BadFile, with its line, for anything that is neither."""
    _check_size(len(data), source)
    data = data.removeprefix(b"\xef\xbb\xbf")
    _check_bytes(data, source)
    start = data.lstrip()[:1]
    if not start:
        raise refuse(source, None, "nothing in it", "a YAML or JSON document")
    if start not in (b"{", b"["):
        return _parse_yaml(data, source)
    from gpumax.formats.json_text import read_json

    try:
        return [read_json(data, source)]
    except NotJson as broken:
        # YAML may start with a bracket, too.
        if len(data) > MOST_YAML_BYTES or source.endswith(".json"):
            raise
        try:
            return _parse_yaml(data, source)
        except BadFile:
            if source.endswith((".yaml", ".yml")):
                raise
            raise broken from None


def _parse_yaml(data: bytes, source: str) -> list[Parsed]:
    if len(data) > MOST_YAML_BYTES:
        found = f"{len(data) / MIB:.1f} MiB of YAML"
        raise refuse(source, None, found, f"at most {MOST_YAML_BYTES >> 20} MiB; write it as JSON")
    # Late, because most commands read no YAML.
    from gpumax.formats.yaml_text import read_yaml

    documents = read_yaml(data, source)
    if not documents:
        raise refuse(source, None, "nothing in it", "a YAML or JSON document")
    return documents


def one_document(obj: object, source: str = "", line_of: LineOf | None = None) -> Parsed:
    """A document as it is, or the only one in a file: its bytes, its text, or its path."""
    if isinstance(obj, Path):
        obj, source = read_file(obj), source or str(obj)
    if not isinstance(obj, str | bytes):
        return Parsed(obj, line_of or no_lines, source)
    documents = parse_text(obj.encode("utf-8", "surrogatepass") if isinstance(obj, str) else obj, source)
    if len(documents) > 1:
        raise refuse(source, None, f"{len(documents)} documents", "one document")
    return documents[0]


def read_file(path: str | Path) -> bytes:
    """The bytes of a file, `-` for standard input. BadFile for a directory, a missing, unreadable or too large file."""
    if str(path) == "-":
        return _read(sys.stdin.buffer, "standard input")
    source = str(path)
    try:
        if stat.S_ISDIR(Path(path).stat().st_mode):
            raise refuse(source, None, "a directory", "a file")
        with Path(path).open("rb") as file:
            _check_size(Path(path).stat().st_size, source)
            return _read(file, source)
    except FileNotFoundError:
        raise refuse(source, None, "no such file", "a file that is there") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise refuse(source, None, f"a file that can't be read ({why})", "a readable file") from None


def _read(file: BinaryIO, source: str) -> bytes:
    # A pipe or a device has no size to look at beforehand.
    data = file.read(MOST_BYTES + 1)
    _check_size(len(data), source)
    return data


def _check_size(size: int, source: str) -> None:
    if size > MOST_BYTES:
        raise refuse(source, None, f"{-(-size >> 20)} MiB", f"at most {MOST_BYTES >> 20} MiB")


def _check_bytes(data: bytes, source: str) -> None:
    zero = data.find(b"\0")
    if zero >= 0:
        raise refuse(source, _line(data, zero), f"a NUL byte at byte {zero}", "text")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at byte {error.start}, which is not UTF-8"
        raise refuse(source, _line(data, error.start), found, "text in UTF-8") from None


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
