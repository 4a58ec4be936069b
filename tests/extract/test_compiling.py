import shutil

import numpy as np
import pytest
import torch

from extract.compiling import compile_images
from extract.embed import embed
from extract.encoders import create_encoder
from extract.errors import UserError
from extract.planning import EmbedOptions

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_a_compiled_encoder_gives_the_same_vectors_but_for_the_last_digits(hf_folder, catalog):
    """Eight pictures in batches of three: the last is filled up, and cut again."""
    encoder = create_encoder(f"hf:{hf_folder}")
    options = EmbedOptions(workers=0, batch_size=3)
    (exact,) = embed(encoder, catalog, options)
    compile_images(encoder, 3, CPU)
    (found,) = embed(encoder, catalog, options)
    np.testing.assert_allclose(found.vectors["image"], exact.vectors["image"], atol=1e-4)
    np.testing.assert_array_equal(found.vectors["text"], exact.vectors["text"])


def test_a_compiler_that_fails_is_told_in_one_line(hf_folder, monkeypatch):
    def fails(function):
        def call(*_):
            raise RuntimeError("No working C++ compiler found\nand a page of the log")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    encoder = create_encoder(f"hf:{hf_folder}")
    plain = encoder.encode_image
    with pytest.raises(
        UserError, match=r"\(No working C\+\+ compiler found\); leave out --compile"
    ):
        compile_images(encoder, 3, CPU)
    assert encoder.encode_image == plain
