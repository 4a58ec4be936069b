"""Builds `kernels.c` on demand and loads it.

Where there is no C compiler with OpenMP, or the environment has ``MMREC_KERNELS=0``, there are no
kernels, and their callers take torch's slower way to the same result.
"""

import ctypes
import os
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.files import digest, replacing

SOURCE = Path(__file__).with_name("kernels.c")
# OpenMP's runtime is torch's own: it is loaded already under the name that the linker asks for.
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


@cache
def kernels() -> ctypes.CDLL | None:
    """The compiled loops, built once for each machine and source; None where that fails."""
    if os.environ.get("MMREC_KERNELS") == "0":
        return None
    try:
        library = _cache_folder() / f"kernels-{_key()}.so"
        if not library.exists():
            _build(library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None


def usable(*arrays: Tensor) -> bool:
    """Whether the compiled loops can take over: float32 on the CPU, and there are such loops."""
    alike = all(array.device.type == "cpu" and array.dtype == torch.float32 for array in arrays)
    return alike and kernels() is not None


def call(name: str, *arguments: Tensor | int | float | None) -> int:
    """Call a loop of `kernels`, with as many threads as torch has.

    Args:
        name: Of the function.
        *arguments: Tensors are handed over as pointers and must be contiguous, None is NULL, and
            numbers are int64 and float.
    """
    library = kernels()
    if library is None:
        raise RuntimeError(f"there are no compiled loops, so {name} cannot be called")
    passed = [_passed(argument) for argument in arguments]
    result: int = library[name](*passed, ctypes.c_int(torch.get_num_threads()))
    return result


def _passed(argument: Tensor | int | float | None) -> Any:
    if isinstance(argument, Tensor):
        if not argument.is_contiguous():
            raise ValueError("the compiled loops take contiguous tensors only")
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_int64(argument) if argument is not None else None


def _build(library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    with replacing(library) as temporary:
        command = [compiler, *FLAGS, "-x", "c", str(SOURCE), "-o", str(temporary), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def _key() -> str:
    """What decides the machine code: the source, the flags, and the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith("flags")][:1]
    compiler = os.environ.get("CC", "cc")
    return digest([SOURCE.read_text(), *FLAGS, compiler, platform.platform(), *flags])[:16]


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "mmrec"
    return (
        folder if os.access(_existing(folder), os.W_OK) else Path(tempfile.gettempdir()) / "mmrec"
    )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
