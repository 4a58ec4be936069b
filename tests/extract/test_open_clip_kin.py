"""Models of open_clip that are no CLIP, against the library called by hand, one by one."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from extract.encoders import create_encoder
from extract.torchvision_shim import ensure_torchvision

TEXTS = ["a red shoe", "blue jeans, slim fit", "x", "café crème mug", "one two three " * 20]
PREPROCESSING = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.5, 0.6, 0.7],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
KINDS = {
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 32,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "none",
        },
        "text_cfg": {
            **TEXT,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    },
    "coca": {
        "embed_dim": 32,
        "custom_text": True,
        "multimodal_cfg": {**TEXT, "mlp_ratio": 2, "dim_head": 16, "n_queries": 8},
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    },
}


def save_folder(kind, folder):
    """A model with random weights as a folder of open_clip."""
    ensure_torchvision()
    import open_clip
    from safetensors.torch import save_file

    file = folder / f"tiny-{kind}.json"
    file.write_text(json.dumps(KINDS[kind]))
    open_clip.add_model_config(file)
    torch.manual_seed(5)
    weights = open_clip.create_model(f"tiny-{kind}").state_dict()
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    config = {"model_cfg": KINDS[kind], "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def pictures():
    rng = np.random.default_rng(4)
    return [
        Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(size)
        for size in [(32, 32), (64, 32), (40, 60), (100, 80), (33, 47)]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_equal_those_of_the_plain_model_one_by_one(kind, tmp_path):
    save_folder(kind, tmp_path)
    encoder, images = create_encoder(f"clip:{tmp_path}"), pictures()
    import open_clip

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    inputs = encoder.collate(
        {
            "image": [encoder.prepare_image(image) for image in images],
            "text": [encoder.prepare_text(text) for text in TEXTS],
        }
    )
    with torch.no_grad():
        found = encoder.encode(inputs)
        for row in range(5):
            output = model.eval()(transform(images[row])[None], tokenizer([TEXTS[row]]))
            told = output.values() if isinstance(output, dict) else output
            for modality, theirs in zip(("image", "text"), told, strict=False):
                mine = normalize(found[modality][row], dim=0)
                torch.testing.assert_close(mine, theirs[0], atol=2e-5, rtol=0)
    for modality, vectors in found.items():
        unit = torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-3)
        assert unit == encoder.normalized[modality]
        assert torch.pdist(normalize(vectors)).min() > 0.01
    assert encoder.log_scales == (encoder.model.logit_scale,)
