"""Which weights are trained, at which rates, and how the rates rise and fall."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.finetune.options import Rates, TuneOptions
from extract.finetune.rates import layer_factors

ALL, NONE = "all", "none"
# Weights that an error names.
NAMES_TOLD = 6


def choose_trained(encoder: Encoder, added: Iterable[str], options: Rates) -> None:
    """Set ``requires_grad`` of every weight by the options.

    Args:
        encoder: Changed in place.
        added: Names of weights that were added for this training; they are trained in any case.
        options: What else is trained.

    Raises:
        UserError: A pattern is no regular expression or fits no weight, or nothing is trained.
    """
    added, names = set(added), [name for name, _ in encoder.named_parameters()]
    patterns = [pattern for pattern, _ in _rules(options, bool(added))]
    for pattern in patterns:
        if not any(pattern.search(name) for name in names):
            raise UserError(
                f"the pattern {pattern.pattern!r} of what is trained fits no weight of "
                f"{encoder.spec}; some of its {len(names)}: "
                f"{', '.join(names[:: max(1, len(names) // NAMES_TOLD)]) or 'none'}"
            )
    for name, parameter in encoder.named_parameters():
        chosen = any(pattern.search(name) for pattern in patterns)
        parameter.requires_grad_(name in added or chosen)
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise UserError(
            f"nothing of {encoder.spec} is trained; name some of its weights, or add a projection, "
            "LoRA or bottlenecks"
        )


def parameter_groups(
    encoder: Encoder, added: Iterable[str], options: Rates
) -> list[dict[str, Any]]:
    """The weights that are trained, a group for each rate and weight decay.

    Vectors and numbers have no weight decay. Layer decay acts on the encoder's own weights only.

    Args:
        encoder: Of which `choose_trained` chose.
        added: Names of weights that were added.
        options: Rates and decay.

    Returns:
        Groups of ``params``, ``lr`` and ``weight_decay``, as torch's optimizers take them.
    """
    added = set(added)
    rules = _rules(options, bool(added))
    factors = layer_factors(encoder, added, options.layer_decay)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            own = name not in added
            rate = _rate(name, rules, options) * factors[name] if own else options.learning_rate
            decay = options.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def make_optimizer(
    encoder: Encoder,
    added: Iterable[str],
    own: Sequence[nn.Parameter],
    options: Rates,
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups` and the loss's parameters.

    Args:
        encoder: Of which `choose_trained` chose.
        added: Names of weights that were added.
        own: The loss's own parameters, which may be the encoder's, too.
        options: Rates and decay.
    """
    groups = parameter_groups(encoder, added, options)
    seen = {id(parameter) for group in groups for parameter in group["params"]}
    others = [parameter for parameter in own if id(parameter) not in seen]
    if others:
        groups.append({"params": others, "lr": options.learning_rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


def make_schedule(
    optimizer: torch.optim.Optimizer, steps: int, options: TuneOptions
) -> torch.optim.lr_scheduler.LambdaLR:
    """Rates that rise over the warm-up and fall to zero as a cosine.

    Args:
        optimizer: At its peak rates.
        steps: Of the whole training.
        options: The share of the warm-up.
    """
    rising = max(1, round(options.warmup * steps)) if options.warmup else 0

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, steps - rising)
        return (1 + math.cos(math.pi * min(done, 1))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def set_training(encoder: Encoder) -> None:
    """Switch on dropout in what is trained, and nowhere else.

    Batch norms stay in evaluation: their statistics would come from a batch of pictures, and
    chunks of one batch would not add up to it.
    """
    encoder.eval()
    for module in encoder.modules():
        trained = any(parameter.requires_grad for parameter in module.parameters())
        if trained and not isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = True
            for child in module.children():
                if not any(True for _ in child.parameters()):
                    child.train()


def _rules(options: Rates, something_added: bool) -> list[tuple[re.Pattern[str], float]]:
    """Patterns of names, and the rate of what fits."""
    wanted = options.train or ((NONE,) if something_added else (ALL,))
    rules = []
    for text in wanted:
        if text == NONE:
            continue
        pattern, rate = _split_rate(text, options.encoder_rate)
        try:
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError("a rate is above 0")
            rules.append((re.compile("" if pattern == ALL else pattern), rate))
        except (re.error, ValueError) as error:
            raise UserError(
                f"what is trained is all, none, PATTERN or PATTERN=RATE, found {text!r} ({error})"
            ) from error
    return rules


def _split_rate(text: str, usual: float) -> tuple[str, float]:
    """A pattern and its rate; an equals sign may also be the pattern's own."""
    pattern, equals, rate = text.rpartition("=")
    try:
        return (pattern, float(rate)) if equals else (text, usual)
    except ValueError:
        return text, usual


def _rate(name: str, rules: list[tuple[re.Pattern[str], float]], options: Rates) -> float:
    """That of the last pattern that fits."""
    fitting = [rate for pattern, rate in rules if pattern.search(name)]
    return fitting[-1] if fitting else options.encoder_rate
