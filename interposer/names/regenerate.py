"""Write driver.txt, procaddress.txt and nvml.txt: which names the public headers of the driver API and of NVML declare.

Names and versions are facts of the interface; nothing else is taken from the headers. Folders with headers are given by
hand, all that are to be supported at once:

    python interposer/names/regenerate.py 12.9/include 13.5/include ...
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
MODES: tuple[list[str], ...] = (
    [],
    ["-DCUDA_API_PER_THREAD_DEFAULT_STREAM"],
    ["-D__CUDA_API_VERSION_INTERNAL"],
)
# Headers that need others which are seldom installed (EGL, GL, VDPAU): their declarations are read as text.
GRAPHICS = ("cudaEGL.h", "cudaGL.h", "cudaVDPAU.h", "cudaProfiler.h")
# In the library of every driver, and in no header of today's.
ALWAYS = {"cuProfilerInitialize", "cuProfilerStart", "cuProfilerStop"}


def preprocessed(header: Path, *defines: str) -> str:
    command = ["cc", "-E", "-P", "-x", "c", *defines, f"-I{header.parent}", str(header)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared(text: str, result: str, prefix: str) -> set[str]:
    return set(re.findall(rf"\b{result}\s+(?:\w+\s+)*({prefix}[A-Z]\w*)\s*\(", text))


def driver_names(folder: Path) -> set[str]:
    names: set[str] = set(ALWAYS)
    for mode in MODES:
        names |= declared(preprocessed(folder / "cuda.h", *mode), "CUresult", "cu")
    for name in GRAPHICS:
        if (folder / name).exists():
            text = (folder / name).read_text()
            found = declared(text, "CUresult", "cu")
            # A macro gives today's name the newest version's symbol.
            renamed = dict(re.findall(r"#define\s+(cu\w+)\s+(cu\w+_v\d+)\b", text))
            twins = {"__CUDA_API_PTDS": "_ptds", "__CUDA_API_PTSZ": "_ptsz"}
            macro = r"#define\s+cu\w+\s+(__CUDA_API_PT\w\w)\((cu\w+)\)"
            names |= {symbol + end for kind, symbol in re.findall(macro, text) for end in ("", twins[kind])}
            names |= found | {renamed[each] for each in found if each in renamed}
    return names


def typed(folder: Path) -> set[tuple[str, int, str]]:
    text = "".join(preprocessed(folder / "cudaTypedefs.h", *mode) for mode in MODES)
    for name in GRAPHICS:
        types = folder / name.replace(".h", "Typedefs.h")
        text += types.read_text() if types.exists() else ""
    found = re.findall(r"\*\s*PFN_(cu[A-Z]\w*?)_v(\d+)(?:_(ptsz|ptds))?\)", text)
    return {(name, int(version), twin) for name, version, twin in found}


def paired(types: set[tuple[str, int, str]], names: set[str]) -> list[str]:
    """Which symbol each version of a name is: both sorted by age, one after the other."""
    versions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for name, version, twin in sorted(types):
        versions[name, twin].append(version)
    lines = []
    for (name, twin), known in sorted(versions.items()):
        end = f"_{twin}" if twin else ""
        symbols = [s for v in ("", *(f"_v{n}" for n in range(2, 9))) if (s := f"{name}{v}{end}") in names]
        if len(symbols) < len(known):
            print(f"{name}{end}: versions {known}, symbols {symbols}", file=sys.stderr)
            continue
        # A twin for per-thread streams exists for the newest versions alone, and so may a symbol.
        for version, symbol in zip(known, symbols[-len(known) :], strict=True):
            lines.append(f"{name} {version} {twin or '-'} {symbol}")
    return lines


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {len(lines)}")


def main(folders: list[Path]) -> None:
    if not folders:
        sys.exit(__doc__)
    driver: set[str] = set()
    nvml: set[str] = set()
    types: set[tuple[str, int, str]] = set()
    for folder in folders:
        if (folder / "cuda.h").exists():
            driver |= driver_names(folder)
            types |= typed(folder)
        if (folder / "nvml.h").exists():
            for mode in ([], ["-DNVML_NO_UNVERSIONED_FUNC_DEFS"]):
                nvml |= declared(preprocessed(folder / "nvml.h", *mode), "nvmlReturn_t", "nvml")
            nvml |= set(re.findall(r"\bDECLDIR\s+(nvml[A-Z]\w*)\s*\(", (folder / "nvml.h").read_text()))
            nvml |= declared((folder / "nvml.h").read_text(), r"const char\*", "nvml")
            nvml.add("nvmlErrorString")
    write(HERE / "driver.txt", sorted(driver))
    write(HERE / "procaddress.txt", paired(types, driver))
    write(HERE / "nvml.txt", sorted(nvml))


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
