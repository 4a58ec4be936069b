"""Small encoders with random weights, built here, and small catalogues; nothing is downloaded."""

import json
import string

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from extract.catalog import Catalog
from extract.torchvision_shim import ensure_torchvision

TEXTS = [
    "a red shoe",
    "Blue jeans, slim fit, with two pockets and a zip",
    "café crème mug",
    "x",
    "one two three " * 60,
    "a  GREEN   hat!",
    "12 cups & saucers",
    "the quick brown fox jumps over the lazy dog",
]
# The sides differ by an even number after scaling, so that all crops agree on the middle.
SIZES = [(32, 32), (64, 32), (32, 96), (48, 48), (64, 128), (100, 100), (32, 36), (40, 32)]


def make_picture(row, size):
    rng = np.random.default_rng(row)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def catalog(tmp_path):
    """Eight whole items, pictures as PNG, so that a test can compare with its own pixels."""
    folder = tmp_path / "images"
    folder.mkdir()
    for row, size in enumerate(SIZES):
        make_picture(row, size).save(folder / f"{row}.png")
    table = pa.table(
        {
            "item_id": list(string.ascii_lowercase[: len(SIZES)]),
            "text": TEXTS,
            "image": [f"{row}.png" for row in range(len(SIZES))],
        }
    )
    return Catalog.from_table(table, folder)


TINY_CONFIG = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
CLIP_PIXELS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory):
    """A tiny CLIP of transformers with random weights, its processor and its tokenizer."""
    ensure_torchvision()
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("tiny-clip")
    torch.manual_seed(7)
    tower = {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 24,
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=24,
    )
    model = CLIPModel(config)
    with torch.no_grad():  # at its small initial values a wrong activation would hardly show
        for name, parameter in model.named_parameters():
            if "norm" not in name and "logit" not in name:
                parameter.mul_(5)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "do_convert_rgb": True,
                "do_resize": True,
                "size": {"shortest_edge": 32},
                "resample": 3,
                "do_center_crop": True,
                "crop_size": {"height": 32, "width": 32},
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": CLIP_PIXELS["mean"],
                "image_std": CLIP_PIXELS["std"],
            }
        )
    )
    write_clip_tokenizer(folder)
    return folder


def write_clip_tokenizer(folder):
    """CLIP's tokenizer for transformers, from the vocabulary that comes with open_clip."""
    from open_clip.tokenizer import SimpleTokenizer

    source = SimpleTokenizer()
    rename = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {rename.get(token, token): number for token, number in source.encoder.items()}
    merges = sorted(source.bpe_ranks, key=source.bpe_ranks.get)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    special = {"bos_token": "<|startoftext|>", "model_max_length": 77}
    special |= dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    settings = {"tokenizer_class": "CLIPTokenizer", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="session")
def open_clip_weights(hf_folder):
    """The weights of `hf_folder` under open_clip's names."""
    from transformers import CLIPModel

    return to_open_clip(CLIPModel.from_pretrained(hf_folder).state_dict())


def to_open_clip(hf):
    weights = {
        "logit_scale": hf["logit_scale"],
        "positional_embedding": hf["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": hf["text_model.embeddings.token_embedding.weight"],
        "text_projection": hf["text_projection.weight"].T,
        "visual.class_embedding": hf["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": hf["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": hf["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": hf["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        weights[f"ln_final.{kind}"] = hf[f"text_model.final_layer_norm.{kind}"]
        weights[f"visual.ln_pre.{kind}"] = hf[f"vision_model.pre_layrnorm.{kind}"]
        weights[f"visual.ln_post.{kind}"] = hf[f"vision_model.post_layernorm.{kind}"]
        for ours, theirs in (("", "text_model"), ("visual.", "vision_model")):
            for layer in (0, 1):
                old = f"{theirs}.encoder.layers.{layer}"
                new = f"{ours}transformer.resblocks.{layer}"
                weights[f"{new}.ln_1.{kind}"] = hf[f"{old}.layer_norm1.{kind}"]
                weights[f"{new}.ln_2.{kind}"] = hf[f"{old}.layer_norm2.{kind}"]
                weights[f"{new}.mlp.c_fc.{kind}"] = hf[f"{old}.mlp.fc1.{kind}"]
                weights[f"{new}.mlp.c_proj.{kind}"] = hf[f"{old}.mlp.fc2.{kind}"]
                weights[f"{new}.attn.out_proj.{kind}"] = hf[f"{old}.self_attn.out_proj.{kind}"]
                weights[f"{new}.attn.in_proj_{kind}"] = torch.cat(
                    [hf[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                )
    return {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}


@pytest.fixture(scope="session")
def open_clip_folder(open_clip_weights, tmp_path_factory):
    """The same model as a folder of open_clip."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("tiny-open-clip")
    preprocessing = {**CLIP_PIXELS, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": TINY_CONFIG, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(open_clip_weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_model_name(tmp_path_factory):
    """The same architecture as a model that open_clip knows by name."""
    ensure_torchvision()
    import open_clip

    file = tmp_path_factory.mktemp("configs") / "Tiny-Test-16.json"
    file.write_text(json.dumps(TINY_CONFIG))
    open_clip.add_model_config(file)
    return "Tiny-Test-16"


@pytest.fixture(scope="session")
def weight_file(open_clip_weights, tmp_path_factory):
    """The same weights as a file."""
    file = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(open_clip_weights, file)
    return file
