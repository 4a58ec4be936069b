"""The memory of the process itself."""

from pathlib import Path


def peak_bytes() -> int:
    """The most memory that this process has held.

    Not getrusage, which counts the memory of the process that started this one, too.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
