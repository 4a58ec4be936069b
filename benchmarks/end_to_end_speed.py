"""Items a second of end-to-end steps beside the same encoder's training on ready tensors."""

from collections.abc import Iterator

import torch

from benchmarks.finetune import LAST_BLOCKS
from benchmarks.floors import matrix_rate, mean_seconds
from benchmarks.live_step import LiveStep, made_up_inputs, operations, plain_step
from benchmarks.material import ENCODERS
from benchmarks.output import Row
from extract.encoders.base import Encoder
from extract.finetune.inputs import Inputs
from extract.finetune.optimizer import choose_trained
from extract.precision import DTYPES
from pipelines.end_to_end_config import EndToEndOptions


def speed(device: torch.device, quick: bool) -> Iterator[Row]:
    """Of a CLIP that is trained as a whole, and of the offline pair's last blocks."""
    on_gpu = device.type == "cuda"
    clip, items, chunk, pairs, rounds = "vit-b-32", 64, 8, 256, 2
    if on_gpu:
        clip, items, chunk, pairs, rounds = "vit-b-16", 1024, 256, 4096, 20
    elif quick:
        items, chunk, pairs, rounds = 8, 4, 64, 1
    inputs = made_up_inputs(ENCODERS[clip]().to(device), items, device)
    for precision in ("bf16",) if on_gpu else ("fp32", "bf16"):
        yield from speed_rows(f"{clip}-{precision}", inputs, precision, chunk, rounds)
    inputs = made_up_inputs(last_blocks(ENCODERS["offline"]()).to(device), pairs, device)
    # torch counts the backward pass of grouped convolutions as if they had no groups.
    chunk = EndToEndOptions().chunk_size
    yield from speed_rows("offline", inputs, "fp32", chunk, rounds, counted=False)


def last_blocks(encoder: Encoder) -> Encoder:
    """The offline pair, of which the last blocks of both towers are trained."""
    choose_trained(encoder, (), EndToEndOptions(train=LAST_BLOCKS))
    return encoder


def speed_rows(
    name: str, inputs: Inputs, precision: str, chunk: int, rounds: int, counted: bool = True
) -> Iterator[Row]:
    """One chunk of all items, and small ones, which go through the encoder twice forward.

    The reference has the same chunks, and encodes them once. The floor is one pass at the rate of
    a large matrix product.

    Args:
        name: Of the encoder.
        inputs: The items.
        precision: Of the encoder's arithmetic.
        chunk: Items of a small chunk.
        rounds: Steps to measure.
        counted: Whether there is a floor.
    """
    items, device = len(inputs.catalog), inputs.device
    flops = operations(inputs) if counted else 0.0
    floor = matrix_rate(device, DTYPES[precision]) / flops if counted else None
    for size in (0, chunk):
        reached = items / mean_seconds(LiveStep(inputs, size, precision), device, rounds)
        plain = items / mean_seconds(plain_step(inputs, size, precision), device, rounds)
        told = f"{name}/end_to_end" + (f"/chunk-{size}" if size else "")
        unit = f"items/s, {items} a step"
        of_floor = reached / floor if floor else None
        yield Row(told, reached, unit, plain, reached / plain, floor, of_floor)
    if counted:
        yield Row(f"{name}/end_to_end/flops", flops / 1e9, "GFLOP per item, one pass")
