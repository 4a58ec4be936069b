from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.cluster import local_cluster, needs_ray

from extract.embed import embed
from extract.encoders import create_encoder
from extract.errors import UserError
from extract.loader import DECODING
from extract.planning import EmbedOptions, plan, split
from extract.ray_cluster import Cluster, Share, share_out
from extract.ray_engine import _collect, embed_on_cluster
from extract.ray_worker import EncodingWorker, Recipe
from extract.shards import ShardWriter

pytestmark = needs_ray

OPTIONS = EmbedOptions(shard_rows=2, batch_size=2)


@pytest.fixture(scope="module")
def cluster():
    with local_cluster():
        yield Cluster(workers=2, device="cpu")


def identity_of(spec):
    encoder = create_encoder(spec)
    return {"spec": spec, "model": encoder.fingerprint(), "precision": "fp32"}


def shards(folder, what, batches):
    """The bytes of the shards of numbered batches."""
    writer = ShardWriter(folder, what.dims)
    for number, batch in batches:
        writer.write(batch, number)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


@pytest.mark.slow
def test_two_workers_give_the_same_shards(cluster, hf_folder, catalog, tmp_path):
    assert torch.get_num_threads() == 1
    spec = f"hf:{hf_folder}"
    encoder = create_encoder(spec)
    what = plan(encoder, catalog, OPTIONS)
    alone = shards(tmp_path / "local", what, enumerate(embed(encoder, catalog, OPTIONS)))
    chunks = split(range(len(catalog)), 2)
    told = []
    spread = embed_on_cluster(
        cluster,
        identity_of(spec),
        catalog,
        OPTIONS,
        chunks,
        progress=lambda modality, count: told.append((modality, count)),
        modalities=what.encoded,
    )
    assert shards(tmp_path / "ray", what, spread) == alone
    assert len(alone) == 4
    assert sorted(told) == [("image", 2)] * 4 + [("text", 2)] * 4


class Workers:
    """In place of Ray and its actors: everything is done at once, and told from the last on."""

    exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=KeyError)

    def __init__(self):
        self.asked, self.waited, self.killed = [], [], []
        self.encode = SimpleNamespace(remote=lambda catalog, rows: self.asked.append(rows) or rows)

    def wait(self, answers, num_returns):
        self.waited.append(len(answers))
        return answers[-1:], answers[:-1]

    def get(self, answer):
        return 1, f"batch of {answer}"

    def kill(self, worker):
        self.killed.append(worker)


def test_what_is_not_collected_does_not_pile_up():
    ray, workers = Workers(), [Workers(), Workers()]
    batches = _collect(ray, workers, None, range(20, 29), say=print)
    assert next(batches) == (3, "batch of 23")
    assert [worker.asked for worker in workers] == [[20, 22], [21, 23, 24]]
    assert sorted(batches) == [(n, f"batch of {n + 20}") for n in range(9) if n != 3]
    assert ray.waited == [4, 4, 4, 4, 4, 4, 3, 2, 1]
    # Who has nothing left to do gives its place back.
    assert set(ray.killed) == set(workers)


def recipe(catalog, **changes):
    identity = {**identity_of("random:4"), "decoding": DECODING}
    options = EmbedOptions(workers=0)
    made = Recipe(identity, options, "cpu", 1, 0, ".", {0: catalog.content(0)})
    return replace(made, **changes)


def test_a_worker_gives_what_embed_gives(catalog):
    (expected,) = embed(create_encoder("random:4"), catalog, OPTIONS, chunks=[[1, 5]])
    _, batch = EncodingWorker(recipe(catalog)).encode(catalog, [1, 5])
    assert batch.item_ids == expected.item_ids
    np.testing.assert_array_equal(batch.vectors["fused"], expected.vectors["fused"])


def test_a_worker_with_another_encoder_is_refused(catalog):
    other = {**recipe(catalog).identity, "model": "f00"}
    with pytest.raises(UserError, match=r"makes another encoder of random:4: model .* of f00"):
        EncodingWorker(recipe(catalog, identity=other)).encode(catalog, [0])


def test_a_worker_that_sees_other_pictures_is_refused(catalog, tmp_path):
    elsewhere = replace(catalog, folder=tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"does not see the pictures in .*elsewhere"):
        EncodingWorker(recipe(catalog)).encode(elsewhere, [0])


@pytest.mark.parametrize(
    ("nodes", "workers", "device", "expected"),
    [
        ([{"CPU": 16.0}], None, "auto", Share(4, 4, 0)),
        ([{"CPU": 2.0}], None, "auto", Share(1, 2, 0)),
        ([{"CPU": 2.0}], 2, "auto", Share(2, 1, 0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}, {}], 3, "cpu", Share(3, 4, 0)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], None, "auto", Share(2, 8, 1)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}], 2, "cuda", Share(2, 4, 1)),
        ([{"CPU": 16.0, "GPU": 2.0}], None, "cpu", Share(4, 4, 0)),
    ],
)
def test_what_each_worker_gets(nodes, workers, device, expected):
    assert share_out(nodes, Cluster(workers, device=device), ours=False) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "device", "told"),
    [
        ([{"CPU": 2.0}], 3, "auto", "3 workers of Ray need a CPU core each, and the cluster has 2"),
        ([{"CPU": 2.0}], None, "cuda", "need a GPU each, and the cluster has 0"),
        ([], None, "auto", "the cluster has 0"),
    ],
)
def test_more_than_there_is_is_refused(nodes, workers, device, told):
    with pytest.raises(UserError, match=told):
        share_out(nodes, Cluster(workers, device=device), ours=False)
