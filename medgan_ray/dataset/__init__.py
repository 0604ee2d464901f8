"""Datasets: an immutable manifest, content-addressed shards, a cache, an order, batches."""
