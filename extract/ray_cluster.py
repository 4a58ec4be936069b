"""A cluster of Ray: how it is reached, and what each worker gets of it.

Ray is imported when it is needed only, and left as it was found.
"""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

from extract.errors import UserError

# PyTorch keeps about so many cores busy with one batch; every worker holds the weights once more.
CPUS_PER_WORKER = 4
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Cluster:
    """Where to encode, and how an encoder is made there.

    Attributes:
        workers: How many processes encode; None for one per GPU, else per `CPUS_PER_WORKER` cores.
        address: Of a running cluster, as Ray takes it; None for that of the environment variable
            RAY_ADDRESS, else for a cluster of this machine alone that ends with the run.
        device: A key of `DEVICES`; ``auto`` takes the GPUs where there are some.
        seed: Of PyTorch, before an encoder is made.
    """

    workers: int | None = None
    address: str | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without Ray."""
        if self.device not in DEVICES:
            raise UserError(
                f"Ray itself hands out the GPUs, so a device is one of {', '.join(DEVICES)}, found "
                f"{self.device!r}"
            )
        if find_spec("ray") is None:
            raise UserError(
                "the engine ray needs the package ray, which is not installed; "
                'pip install "mmrec[ray]", or use --engine local'
            )

    def __str__(self) -> str:
        return "Ray"


@dataclass(frozen=True)
class Share:
    """What each worker gets of a cluster."""

    workers: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        gpu = f"{self.gpus} GPU and " if self.gpus else ""
        return f"{self.workers} workers of Ray with {gpu}{self.cpus} CPU each"


def share_out(nodes: Sequence[Mapping[str, float]], cluster: Cluster, ours: bool) -> Share:
    """What each worker gets.

    Args:
        nodes: The resources of each machine, by Ray's names.
        cluster: What is wanted.
        ours: Whether the cluster is this machine alone.

    Raises:
        UserError: There are fewer GPUs or cores than workers are wanted.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    # PyTorch here may be one for the CPU only; of other machines it says nothing.
    usable = torch.cuda.is_available() or not ours
    on_gpus = cluster.device == "cuda" or (cluster.device == "auto" and usable and any(gpus))
    default = sum(cores // CPUS_PER_WORKER or min(cores, 1) for cores in cpus)
    wanted = cluster.workers or max(sum(gpus) if on_gpus else default, 1)
    room = sum(gpus) if on_gpus else sum(cpus)
    if wanted > room:
        kind = "GPU" if on_gpus else "CPU core"
        raise UserError(
            f"{wanted} workers of Ray need a {kind} each, and the cluster has {room}; ask for "
            "fewer with --ray-workers, or choose another --device"
        )
    if on_gpus:
        per_gpu = min(cores // cards for cores, cards in zip(cpus, gpus, strict=True) if cards)
        return Share(wanted, per_gpu, 1)
    fitting = (c for c in range(max(cpus), 0, -1) if sum(cores // c for cores in cpus) >= wanted)
    return Share(wanted, next(fitting), 0)


@contextmanager
def connected(address: str | None) -> Iterator[tuple[ModuleType, bool]]:
    """Ray, connected as long as this lasts; where it is connected already, that is left as it is.

    Args:
        address: See `Cluster`.

    Yields:
        The package, and whether the cluster was started here, of this machine alone.

    Raises:
        UserError: The cluster cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    ours = address == "local"
    if ours:
        # Ray's own way to stay on 127.0.0.1; it looks at it once, when it is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield ray, False
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if ours:
        quiet["include_dashboard"] = False
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the Ray cluster {address} cannot be reached ({error}); start it, or correct "
            "--ray-address or RAY_ADDRESS; where it asks for a token, set RAY_AUTH_MODE=token"
        ) from error
    # It tells the driver's stdout, where results go, of each task that it tries again.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield ray, ours
    finally:
        ray.shutdown()
        ray._private.worker._worker_logs_enabled = True


def _knock(address: str) -> None:
    """Connect to HOST:PORT: where nobody listens, Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
