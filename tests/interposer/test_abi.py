"""Our picture of the binary interfaces of the driver API and of NVML is the one of CUDA 12.x and of 13.x.

No vendor's header is used where gpumax is built. Here the compiler sees both, ours under other names, and compares constant by
constant, struct by struct, and each prototype and each version of cuGetProcAddress with the public ones.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from interposer.conftest import DRIVER_HEADERS, INTERPOSER, NVML_HEADERS, cc

INCLUDE = INTERPOSER / "include"
INTERNAL = "-D__CUDA_API_VERSION_INTERNAL"  # the public headers show older versions under it, too


class Header(NamedTuple):
    constants: list[str]
    handles: list[str]
    structs: dict[str, list[str]]


def read(path: Path) -> Header:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    constants = re.findall(r"^#define ((?:CU|NVML)_\w+) .", text, flags=re.M)
    for body in re.findall(r"typedef enum \{(.*?)\}", text, flags=re.S):
        constants += re.findall(r"(\w+) =", body)
    structs = {}
    for body, name in re.findall(r"typedef (?:struct|union) \w+ \{(.*?)\n\} (\w+);", text, flags=re.S):
        flat = re.sub(r"struct \{.*?\} (\w+);", r"int \1;", body, flags=re.S)
        structs[name] = re.findall(r"(\w+)(?:\[\w+\])?;", flat)
    handles = re.findall(r"typedef [\w ]+?\*?(\w+);", text)
    return Header(constants, [h for h in handles if h not in structs], structs)


def words(path: Path) -> set[str]:
    return set(re.findall(r"\w+", path.read_text()))


def prefixed(path: Path, header: Header) -> str:
    """Ours, with all that it defines under another name, so that both can stand in one file."""
    text = path.read_text()
    tags = re.findall(r"(?:struct|union) (\w+)", text)
    enums = re.findall(r"^(?:typedef enum \{.*)?\} (\w+);", text, flags=re.M)
    names = {
        *header.constants,
        *header.handles,
        *header.structs,
        *tags,
        *enums,
        "CUhostFn",
        "CUstreamCallback",
        "CUoccupancyB2DSize",
    }
    return re.sub(r"\b\w+\b", lambda m: f"our_{m[0]}" if m[0] in names else m[0], text)


def comparison(theirs: Path, ours: Path) -> str:
    header, known = read(ours), words(theirs)
    lines = [f'#include "{theirs}"', prefixed(ours, header)]
    for name in header.constants:
        if name in known:
            lines.append(f'_Static_assert((long long)our_{name} == (long long){name}, "{name}");')
    for name in header.handles:
        if name in known:
            lines.append(f'_Static_assert(sizeof(our_{name}) == sizeof({name}), "{name}");')
    for name, members in header.structs.items():
        if name in known:
            lines.append(f'_Static_assert(sizeof(our_{name}) == sizeof({name}), "{name}");')
            for member in members:
                if member.startswith(("reserved", "pad")):
                    continue
                lines.append(
                    f'_Static_assert(__builtin_offsetof(our_{name}, {member}) == __builtin_offsetof({name}, {member}), "{name}.{member}");'
                )
    return "\n".join(lines) + "\n"


def assert_compiles(text: str, folder: Path, *flags: str) -> None:
    source = folder / "check.c"
    source.write_text(text)
    done = cc("-std=gnu11", "-fsyntax-only", "-Wno-deprecated-declarations", *flags, f"-I{INCLUDE}", source)
    assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.parametrize("version", ["12", "13"])
def test_constants_and_structs_of_the_driver(version: str, tmp_path: Path) -> None:
    assert_compiles(comparison(DRIVER_HEADERS[version] / "cuda.h", INCLUDE / "gpumax/cuda_abi.h"), tmp_path)


@pytest.mark.parametrize("version", ["12", "13"])
def test_constants_and_structs_of_nvml(version: str, tmp_path: Path) -> None:
    assert_compiles(comparison(NVML_HEADERS[version] / "nvml.h", INCLUDE / "gpumax/nvml_abi.h"), tmp_path)


@pytest.mark.parametrize("subject", ["cuda", "nvml"])
def test_every_name_of_ours_is_known_to_a_version_at_least(subject: str) -> None:
    """What no version knew would be compared with nothing."""
    headers = DRIVER_HEADERS if subject == "cuda" else NVML_HEADERS
    known = set[str]().union(*(words(folder / f"{subject}.h") for folder in headers.values()))
    header = read(INCLUDE / f"gpumax/{subject}_abi.h")
    assert len(header.constants) > 10
    assert len(header.structs) > 5
    assert {*header.constants, *header.handles, *header.structs} - known == set()


@pytest.mark.parametrize("version", ["12", "13"])
def test_a_comparison_finds_what_differs(version: str, tmp_path: Path) -> None:
    """A wrong constant and a member that moved are found, and named."""
    text = (INCLUDE / "gpumax/cuda_abi.h").read_text()
    wrong = text.replace("CUDA_ERROR_OUT_OF_MEMORY = 2", "CUDA_ERROR_OUT_OF_MEMORY = 9")
    wrong = wrong.replace("\tCUmemAccess_flags flags;\n}", "\tint gap;\n\tCUmemAccess_flags flags;\n}")
    (tmp_path / "wrong.h").write_text(wrong)
    with pytest.raises(AssertionError, match=r'CUDA_ERROR_OUT_OF_MEMORY"(.|\n)*CUmemAccessDesc'):
        assert_compiles(comparison(DRIVER_HEADERS[version] / "cuda.h", tmp_path / "wrong.h"), tmp_path)


@pytest.mark.parametrize("version", ["12", "13"])
def test_prototypes_of_the_driver(version: str, tmp_path: Path) -> None:
    """Declared a second time, ours have to be compatible: the compiler refuses one that isn't."""
    theirs = DRIVER_HEADERS[version] / "cuda.h"
    known = words(theirs)
    ours = [p for p in prototypes() if set(re.findall(r"\bCU\w+", p)) <= known]
    assert len(ours) >= 0.9 * len(prototypes())
    assert_compiles("\n".join([f'#include "{theirs}"', *ours]) + "\n", tmp_path, INTERNAL)


def prototypes() -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", (INCLUDE / "gpumax/cuda_api.h").read_text(), flags=re.S)
    return re.findall(r"^CUresult cu\w+\([^;]*\);", text, flags=re.M)


@pytest.mark.parametrize("version", ["12", "13"])
def test_versions_of_names_are_the_symbols_that_have_that_type(version: str, tmp_path: Path) -> None:
    """names/procaddress.txt pairs versions with symbols by age; the headers' types say whether that is right."""
    folder = DRIVER_HEADERS[version]
    types, names = words(folder / "cudaTypedefs.h"), words(folder / "cuda.h")
    lines = [f'#include "{folder}/cuda.h"', f'#include "{folder}/cudaTypedefs.h"']
    for line in (INTERPOSER / "names/procaddress.txt").read_text().splitlines():
        name, number, twin, symbol = line.split()
        kind = f"PFN_{name}_v{number}" + ("" if twin == "-" else f"_{twin}")
        if kind in types and symbol.removesuffix(f"_{twin}") in names:
            lines.append(
                f'_Static_assert(__builtin_types_compatible_p(__typeof__(&{symbol}), {kind}), "{line}");'
            )
    assert len(lines) > 300
    assert_compiles("\n".join(lines) + "\n", tmp_path, INTERNAL, f"-I{folder}")


@pytest.mark.parametrize("version", ["12", "13"])
def test_every_function_of_the_headers_has_its_name_in_the_list(version: str) -> None:
    for folder, header, result, file in (
        (DRIVER_HEADERS[version], "cuda.h", "CUresult", "driver.txt"),
        (NVML_HEADERS[version], "nvml.h", "nvmlReturn_t", "nvml.txt"),
    ):
        text = cc("-E", "-P", "-D__CUDA_API_VERSION_INTERNAL", f"-I{folder}", folder / header).stdout
        declared = set(re.findall(rf"\b{result}\s+(?:\w+\s+)*((?:cu|nvml)[A-Z]\w*)\s*\(", text))
        listed = (INTERPOSER / "names" / file).read_text().split()
        assert len(declared) > 250
        assert declared - set(listed) == set()
        assert listed == sorted(set(listed))
