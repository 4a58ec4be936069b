"""The batched loop on many GPUs or machines: actors of Ray encode, the process that asked collects.

Ray decides where a worker runs, starts it again where it died, and asks it again for what it had
not given back; a dead process costs the chunks that it had in hand.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.chunks import Progress
from extract.errors import UserError
from extract.loader import DECODING
from extract.planning import EmbedOptions, Rows
from extract.ray_cluster import Cluster, Share, connected, share_out
from extract.ray_worker import EncodingWorker, Recipe

# One chunk is encoded while the next one waits; more would only pile up.
IN_FLIGHT = 2
# How often a worker may be started again, and a chunk be asked for again, before Ray gives up.
RESTARTS, RETRIES = 10, 3
# How many pictures a worker compares, to be sure that it sees those that are meant.
SAMPLES = 8


def embed_on_cluster(
    cluster: Cluster,
    identity: Mapping[str, str],
    catalog: Catalog,
    options: EmbedOptions,
    chunks: Sequence[Rows],
    progress: Progress = lambda modality, count: None,
    modalities: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[int, EmbeddingBatch]]:
    """Encode some chunks of a catalogue's rows as `embed` does, in many processes.

    Args:
        cluster: Where.
        identity: The ``spec``, ``model`` and ``precision`` of the encoder that is meant.
        catalog: The items; their pictures lie where every machine sees them.
        options: The circumstances.
        chunks: Rows of the catalogue.
        progress: Told each of `modalities` and how many items more are through, chunk by chunk.
        modalities: What the encoder gives.
        say: Told in a line who works, and when a worker was replaced.

    Yields:
        The number of each chunk and its batch, in the order in which they are done.

    Raises:
        UserError: There is no such cluster; a worker cannot make the same encoder, sees other
            pictures, or died too often; or whatever an encoder raises.
    """
    if not chunks:
        return
    with connected(cluster.address) as (ray, ours):
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = share_out(machines, cluster, ours)
        share = replace(share, workers=min(share.workers, len(chunks)))
        say(str(share))
        workers = _start(ray, share, _recipe(cluster, share, identity, catalog, options))
        try:
            for number, batch in _collect(ray, workers, _stored(ray, catalog), chunks, say):
                for modality in modalities:
                    progress(modality, len(chunks[number]))
                yield number, batch
        finally:
            for worker in workers:
                ray.kill(worker)


def _recipe(
    cluster: Cluster,
    share: Share,
    identity: Mapping[str, str],
    catalog: Catalog,
    options: EmbedOptions,
) -> Recipe:
    cpus = max(share.cpus, 1)
    threads = min(cpus, torch.get_num_threads()) if "OMP_NUM_THREADS" in os.environ else cpus
    # What the cores of the machine suggest is too much where several workers share them.
    decoders = max(cpus - 1, 1) if share.gpus else cpus
    plain = EmbedOptions(**options.model_dump(include=set(EmbedOptions.model_fields)))
    with_picture = np.flatnonzero(pc.is_valid(catalog.images).to_numpy())
    rows = (int(row) for row in islice(with_picture, SAMPLES))
    if plain.workers is None:
        plain = plain.model_copy(update={"workers": decoders})
    return Recipe(
        identity={**identity, "decoding": DECODING},
        options=plain,
        device="cuda" if share.gpus else "cpu",
        threads=threads,
        seed=cluster.seed,
        folder=os.getcwd(),
        samples={row: catalog.content(row) for row in rows},
    )


def _stored(ray: ModuleType, catalog: Catalog) -> Any:
    """The catalogue where all workers of a machine share one copy."""
    if isinstance(catalog.folder, Path):
        catalog = replace(catalog, folder=catalog.folder.absolute())
    return ray.put(catalog)


def _start(ray: ModuleType, share: Share, recipe: Recipe) -> list[Any]:
    worker = ray.remote(EncodingWorker).options(
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        max_restarts=RESTARTS,
        max_task_retries=RETRIES,
        scheduling_strategy="SPREAD",
    )
    return [worker.remote(recipe) for _ in range(share.workers)]


def _collect(
    ray: ModuleType,
    workers: Sequence[Any],
    catalog: Any,
    chunks: Sequence[Rows],
    say: Callable[[str], None],
) -> Iterator[tuple[int, EmbeddingBatch]]:
    """Hand out chunks to who is through with one, and take in what is done."""
    waiting = iter(range(len(chunks)))
    in_hand: dict[Any, tuple[int, Any]] = {}
    processes: dict[Any, int] = {}

    def hand_out(worker: Any) -> None:
        for number in islice(waiting, 1):
            in_hand[worker.encode.remote(catalog, chunks[number])] = number, worker

    for _ in range(IN_FLIGHT):
        for worker in workers:
            hand_out(worker)
    while in_hand:
        (done,), _ = ray.wait(list(in_hand), num_returns=1)
        number, worker = in_hand.pop(done)
        process, batch = _answer(ray, done)
        del done  # Ray keeps an answer for as long as it is named
        if processes.setdefault(worker, process) != process:
            processes[worker] = process
            say(f"warning: a worker died; Ray has put process {process} in its place")
        hand_out(worker)
        if all(worker is not busy for _, busy in in_hand.values()):
            # One that Ray wants to start again may need its place.
            ray.kill(worker)
        yield number, batch


def _answer(ray: ModuleType, done: Any) -> tuple[int, EmbeddingBatch]:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise _given_up(error) from error


def _given_up(error: Exception) -> UserError:
    kept = "what is encoded is kept, and the same command goes on from there"
    if getattr(error, "actor_init_failed", False):
        reason = str(error).strip().splitlines()[-1]
        return UserError(
            f"a worker of Ray cannot start ({reason}); every machine of the cluster needs this "
            f"version of mmrec; {kept}"
        )
    reason = " ".join(str(error).split())
    return UserError(
        f"a worker of Ray died too often ({reason[:300]}); where memory is short, use a smaller "
        f"--batch-size or fewer --ray-workers; {kept}"
    )
