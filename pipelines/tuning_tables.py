"""Recalls of fine-tuning, as lines and as a table for people."""

from collections.abc import Mapping

from rich.table import Table

from extract.finetune.loop import Tuned
from extract.finetune.retrieval import CUTOFFS
from extract.finetune.state import Record
from pipelines.progress import plain_table

DIRECTIONS = {"image_to_text": "image to text", "text_to_image": "text to image"}


def recalls_line(record: Record) -> str:
    """One epoch in one line: the losses, and the recalls if it was validated."""
    terms = "".join(f"  {name} {value:.4f}" for name, value in record.get("loss", {}).items())
    line = f"epoch {record['epoch']:>3}{terms}"
    recalls = record.get("recalls", {}).get("validation")
    if recalls:
        told = (
            f"{told} " + "/".join(f"{recalls[f'{name}@{k}']:.3f}" for k in CUTOFFS)
            for name, told in DIRECTIONS.items()
        )
        line += f"  recall@{'/'.join(map(str, CUTOFFS))}: {', '.join(told)}"
    return line + (f"  {record['seconds']:.1f} s" if "seconds" in record else "")


def recalls_table(tuned: Tuned, sizes: Mapping[str, int]) -> Table:
    """Before and after, of both held-out parts."""
    figures = [
        f"{direction}@{k}" if number else f"{direction} @{k}"
        for direction in DIRECTIONS.values()
        for number, k in enumerate(CUTOFFS)
    ]
    rows = []
    for part in ("validation", "test"):
        for when, recalls in (("before", tuned.before), ("after", tuned.after)):
            found = [recalls[part][f"{name}@{k}"] for name in DIRECTIONS for k in CUTOFFS]
            rows.append([part, f"{sizes[part]:,}", when, *(f"{value:.3f}" for value in found)])
    return plain_table(("held out", "pairs", "when", *figures), rows, right=("pairs", *figures))
