"""The towers of pairs in steps, so that what the frozen ones give can be kept.

Known are timm's EfficientNets and vision transformers, and sentence-transformers over a BERT; every
other model is one step.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from extract.encoders.base import Stage


def image_steps(model: Any, whole: Callable[[Tensor], Tensor]) -> list[Stage]:
    """A picture model of timm in steps: what comes before its blocks, each block, the rest.

    Args:
        model: Made without its classifier.
        whole: All of it.
    """
    kind = type(model).__name__
    if kind == "EfficientNet":
        before, after = (model.conv_stem, model.bn1), (model.conv_head, model.bn2)
        return [
            _in_a_row(*before, first=_channels_last),
            *(_in_a_row(block) for block in model.blocks),
            _stage(lambda x: model.forward_head(model.bn2(model.conv_head(x))), after),
        ]
    if kind == "VisionTransformer":
        blocks = set(model.blocks.parameters())
        last = {*model.norm.parameters(), *_of(model, ("fc_norm", "attn_pool"))}
        return [
            Stage(
                lambda x: model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x)))),
                tuple(p for p in model.parameters() if p not in blocks and p not in last),
            ),
            *(_in_a_row(block) for block in model.blocks),
            Stage(lambda x: model.forward_head(model.norm(x)), tuple(last)),
        ]
    return [_stage(whole, (model,))]


def text_steps(model: Any, whole: Callable[[Any], Tensor], prompt: int) -> list[Stage]:
    """A text model of sentence-transformers in steps: embeddings, each layer, the rest.

    Args:
        model: Whose first module is a transformer.
        whole: All of it.
        prompt: How many tokens of a prompt the pooling leaves out.
    """
    bert = model[0].auto_model
    if type(bert).__name__ != "BertModel":
        return [_stage(whole, (model,))]

    def embed(tokens: Any) -> dict[str, Tensor]:
        hidden = bert.embeddings(input_ids=tokens["input_ids"])
        return {"hidden": hidden, "mask": tokens["attention_mask"]}

    def layer(module: nn.Module) -> Stage:
        def run(state: dict[str, Tensor]) -> dict[str, Tensor]:
            hidden, mask = state["hidden"], state["mask"][:, None, None, :]
            # Added to the scores of attention: nothing looks at the padding.
            unseen = (1 - mask.to(hidden.dtype)) * torch.finfo(hidden.dtype).min
            return {"hidden": module(hidden, unseen), "mask": state["mask"]}

        return _stage(run, (module,))

    def finish(state: dict[str, Tensor]) -> Tensor:
        features: dict[str, Any] = {
            "token_embeddings": state["hidden"],
            "attention_mask": state["mask"],
        }
        if prompt:
            features["prompt_length"] = prompt
        for module in list(model)[1:]:
            features = module(features)
        return features["sentence_embedding"][:, : model.truncate_dim]

    return [
        _stage(embed, (bert.embeddings,)),
        *(layer(module) for module in bert.encoder.layer),
        _stage(finish, tuple(model)[1:]),
    ]


def _in_a_row(*modules: nn.Module, first: Callable[[Tensor], Tensor] | None = None) -> Stage:
    def run(x: Tensor) -> Tensor:
        x = first(x) if first else x
        for module in modules:
            x = module(x)
        return x

    return _stage(run, modules)


def _stage(run: Callable[[Any], Any], modules: Iterable[nn.Module]) -> Stage:
    return Stage(run, tuple(weight for module in modules for weight in module.parameters()))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _of(model: nn.Module, names: Iterable[str]) -> list[nn.Parameter]:
    """The weights of those of a model's parts that it has."""
    parts = [getattr(model, name, None) for name in names]
    return [weight for part in parts if isinstance(part, nn.Module) for weight in part.parameters()]
