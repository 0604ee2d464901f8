"""Verbs: one file each, the whole way of it without Ray. ``import medgan_ray`` offers them."""
