"""Where to compute: one place that turns ``--device`` into a device."""

import re

import torch

from extract.errors import UserError


def resolve_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        name: ``auto`` takes the first GPU where PyTorch sees one, else the CPU.

    Raises:
        UserError: The name is none of these, or there is no such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"a device is auto, cpu, cuda or cuda:N, found {name!r}")
    device = torch.device(name)
    if device.type == "cuda":
        _require_gpu(name, device.index or 0)
    return device


def _require_gpu(name: str, index: int) -> None:
    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU only"
        raise UserError(
            f"device {name} was asked for, but PyTorch {torch.__version__}, built {built}, sees no "
            "GPU; use --device cpu, or install a PyTorch for this machine's driver"
        )
    count = torch.cuda.device_count()
    if index >= count:
        raise UserError(f"device {name} was asked for, but there are {count} GPUs, cuda:0 onwards")
