"""One process of the engine ray: it makes the encoder that is meant, and encodes chunks with it."""

import os
import socket
from dataclasses import dataclass

import torch

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.compiling import compile_images
from extract.embed import embed
from extract.encoders import create_encoder
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.loader import DECODING
from extract.planning import EmbedOptions, Rows, picture_batch
from extract.precision import set_precision


@dataclass(frozen=True)
class Recipe:
    """How a worker comes to the very encoder and pictures that the process that asked has.

    Attributes:
        identity: Spec, fingerprint of the model, precision and decoding.
        options: The circumstances, ``workers`` among them.
        device: Where to encode.
        threads: Of PyTorch.
        seed: Of PyTorch.
        folder: What relative paths start from.
        samples: Some rows with pictures, and the digests of their contents.
    """

    identity: dict[str, str]
    options: EmbedOptions
    device: str
    threads: int
    seed: int
    folder: str
    samples: dict[int, str]


class EncodingWorker:
    """A process that encodes.

    The encoder is made at the first chunk, not before: what goes wrong then comes back as an answer
    and is told once, where a process that cannot even be made would be made again.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.device = torch.device(recipe.device)
        self._encoder: Encoder | None = None

    def encode(self, catalog: Catalog, rows: Rows) -> tuple[int, EmbeddingBatch]:
        """The number of this process, and the batch of a chunk."""
        if self._encoder is None:
            self._encoder = self._make(catalog)
        (batch,) = embed(self._encoder, catalog, self.recipe.options, self.device, chunks=[rows])
        return os.getpid(), batch

    def _make(self, catalog: Catalog) -> Encoder:
        recipe, host = self.recipe, socket.gethostname()
        if os.path.isdir(recipe.folder):
            os.chdir(recipe.folder)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"PyTorch sees no GPU on {host}, where Ray has one; use --device cpu")
        if any(catalog.content(row) != found for row, found in recipe.samples.items()):
            raise UserError(
                f"{host} does not see the pictures in {catalog.folder} that are meant; the "
                "workspace must lie where every machine of the cluster sees it"
            )
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        encoder = create_encoder(recipe.identity["spec"])
        made = {"spec": encoder.spec, "model": encoder.fingerprint(), "decoding": DECODING}
        options = recipe.options
        made["precision"] = set_precision(encoder, options.precision, options.half_convolutions)
        for what, wanted in recipe.identity.items():
            if made[what] != wanted:
                raise UserError(
                    f"{host} makes another encoder of {encoder.spec}: {what} {made[what]} instead "
                    f"of {wanted}; every machine needs the same weights and versions"
                )
        encoder.to(self.device)
        if options.compile_images and "image" in encoder.dims:
            compile_images(encoder, picture_batch(options, self.device), self.device)
        return encoder
