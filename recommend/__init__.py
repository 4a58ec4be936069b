"""Stage two: shards and interactions in, rankings and metrics out."""
