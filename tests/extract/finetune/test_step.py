"""Gradient caching equals one plain graph, with chance and without, in one process and in two."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from extract.finetune.step import contrastive_backward
from extract.losses import itc

PAIRS, DIM = 7, 5


class Towers(nn.Module):
    """Two small towers with dropout, in double precision."""

    def __init__(self, dropout):
        super().__init__()
        torch.manual_seed(0)
        self.towers = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(6, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, DIM)
                )
                for name in ("image", "text")
            }
        )
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.double()

    def encode(self, chunk):
        return {name: (tower(chunk[name]),) for name, tower in self.towers.items()}

    def contrast(self, views):
        groups = torch.tensor([0, 1, 2, 3, 4, 5, 1])
        return {"itc": itc(views["image"][0], views["text"][0], self.log_scale, groups)}


def chunks_of(size):
    generator = torch.Generator().manual_seed(1)
    inputs = {
        name: torch.randn(PAIRS, 6, generator=generator, dtype=torch.double)
        for name in ("image", "text")
    }
    return [
        {name: value[at : at + size] for name, value in inputs.items()}
        for at in range(0, PAIRS, size)
    ]


def plain(towers, chunks):
    """One graph over all chunks, and its gradients."""
    parts = [towers.encode(chunk) for chunk in chunks]
    views = {name: (torch.cat([part[name][0] for part in parts]),) for name in ("image", "text")}
    loss = towers.contrast(views)["itc"]
    return loss, torch.autograd.grad(loss, list(towers.parameters()))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 3, PAIRS])
def test_chunks_give_the_gradient_of_the_plain_graph(size, dropout):
    towers = Towers(dropout)
    torch.manual_seed(3)
    loss, expected = plain(towers, chunks_of(size))
    drawn_plain = torch.rand(1)
    torch.manual_seed(3)
    terms, views = contrastive_backward(
        chunks_of(size), towers.encode, towers.contrast, torch.device("cpu"), [towers.log_scale]
    )
    assert torch.rand(1) == drawn_plain  # the second pass has used up no random numbers
    torch.testing.assert_close(terms["itc"], loss.detach(), rtol=1e-12, atol=0)
    for parameter, gradient in zip(towers.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-15)
        assert gradient.abs().max() > 0
    assert views["image"][0].shape == (PAIRS, DIM)
    assert not views["image"][0].requires_grad


def test_gradients_are_added_to_those_that_are_there():
    towers, chunks = Towers(0.0), chunks_of(3)
    for _ in range(2):
        contrastive_backward(chunks, towers.encode, towers.contrast, torch.device("cpu"))
    _, expected = plain(towers, chunks)
    for parameter, gradient in zip(towers.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-9, atol=1e-15)


def test_a_frozen_tower_gets_no_gradient():
    towers = Towers(0.0)
    towers.towers["image"].requires_grad_(False)
    contrastive_backward(chunks_of(2), towers.encode, towers.contrast, torch.device("cpu"))
    assert all(weight.grad is None for weight in towers.towers["image"].parameters())
    assert all(weight.grad is not None for weight in towers.towers["text"].parameters())


def test_two_processes_give_the_gradients_of_one(tmp_path):
    script = tmp_path / "share.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, sys
            import torch
            from extract.finetune.processes import add_gradients, processes, rank, world
            from extract.finetune.step import contrastive_backward
            from extract.losses import itc

            torch.manual_seed(0)
            tower = torch.nn.Linear(4, 3).double()
            scale = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.double))
            data = torch.randn(8, 2, 4, dtype=torch.double)
            cpu = torch.device("cpu")
            with processes(cpu):
                own = data.chunk(world())[rank()]
                encode = lambda chunk: {
                    name: (tower(chunk[:, at]),) for at, name in enumerate(("image", "text"))
                }
                contrast = lambda views: {"itc": itc(views["image"][0], views["text"][0], scale)}
                terms, _ = contrastive_backward(list(own.split(2)), encode, contrast, cpu, [scale])
                weights = [*tower.parameters(), scale]
                add_gradients(weights)
                found = [weight.grad.tolist() for weight in weights]
                if rank() == world() - 1:
                    open(sys.argv[1], "w").write(json.dumps([terms["itc"].item(), found]))
            """
        )
    )

    def run(*launcher):
        out = tmp_path / "found.json"
        subprocess.run([sys.executable, *launcher, str(script), str(out)], check=True)
        return json.loads(out.read_text())

    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    (alone, gradients), (together, shared) = run(), run(*launcher)
    assert together == pytest.approx(alone, rel=1e-12)
    for one, two in zip(gradients, shared, strict=True):
        torch.testing.assert_close(
            torch.tensor(two, dtype=torch.double),
            torch.tensor(one, dtype=torch.double),
            rtol=1e-9,
            atol=1e-15,
        )
