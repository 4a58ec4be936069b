"""Stage one: items in, Parquet shards of embeddings out."""
