"""Figures of image sets: pure functions from arrays to numbers."""
