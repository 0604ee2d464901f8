"""Inference: open a model, sample from it, encode what it gives."""
