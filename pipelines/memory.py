"""The most memory that was held."""

from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def peak_bytes(device: torch.device | None = None) -> int:
    """The most memory that this process has held so far, of a GPU, or else of the machine.

    0 where the machine does not tell. Not getrusage, which counts the memory of the process that
    started this one, too.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.is_file():
        return 0
    return int(STATUS.read_text().split("VmHWM:")[1].split()[0]) * 1024
