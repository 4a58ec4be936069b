"""Makes torchvision importable beside a PyTorch that it was not built for.

The package index serves torchvision built for CUDA. Beside a CPU build of PyTorch its compiled
operators cannot be loaded, and its import ends in ``operator torchvision::nms does not exist``,
because it attaches a fake kernel to two operators that were never declared. Declaring their
schemas is enough for its transforms and models; only ``torchvision.ops`` stays without kernels.
"""

import sys
from importlib import import_module

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A declaration lives only as long as its library object.
_libraries: list[torch.library.Library] = []


def ensure_torchvision() -> bool:
    """Import torchvision, declaring its operators first where they are missing.

    Returns:
        Whether they had to be declared. False where torchvision works by itself, and where there
        is none, which is no error here: not every encoder needs it.
    """
    try:
        import_module("torchvision")
    except ImportError:
        return False
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _declare_operators()
        import_module("torchvision")
        return True
    return False


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    # The failed import leaves half of the package behind.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
