"""Artifacts in a store: runs, checkpoints, model versions. URI in, verified content out, and back."""
