"""What mmrec-finetune leaves behind, and the settings under which it does so in a moment."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

# Of 42 items 25 are for training, 8 for validation, 9 for the figures: three steps an epoch.
SHARES = ("--holdout", "0.2,0.2", "--workers", "0", "--batch-size", "8", "--epochs", "3")
# Vectors that mean nothing, with projections and their dropout: some milliseconds an epoch.
CONTROL = ("--encoder", "random:16", "--projection", "8", "--learning-rate", "1e-2", *SHARES)


def clip_words(spec):
    """The settings under which a tiny CLIP is tuned."""
    return ("--encoder", spec, "--encoder-rate", "1e-3", *SHARES)


def told(shop, name="ft"):
    """What is written about an encoder of a data set."""
    return json.loads((shop / "encoders" / name / "encoder.json").read_text())


def results(shop, name="ft"):
    """All that training came to, without times."""
    of = told(shop, name)
    for record in of["history"]:
        record.pop("seconds", None)
    kept = ("epoch", "retrieval", "history", "held_out", "weights", "adaptation", "base_model")
    weights = shop / "encoders" / name / "weights.safetensors"
    return {key: of[key] for key in kept}, weights.read_bytes()


def losses(shop, name="ft"):
    """Of each epoch, term by term."""
    return [record["loss"] for record in told(shop, name)["history"][1:]]


def change_items(shop, **columns):
    """Replace or add columns of a data set's items."""
    table = pq.read_table(shop / "items.parquet")
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, shop / "items.parquet")
