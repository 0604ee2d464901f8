"""The plugin's face for a Ray program: the names that ``import medgan_ray`` offers and that need Ray."""

from medgan_ray.on_ray.app import build_app
from medgan_ray.on_ray.read import read_dataset
from medgan_ray.on_ray.space import load_space
from medgan_ray.on_ray.train import GANTrainer
from medgan_ray.on_ray.tune import trainable, tune_search

__all__ = ["GANTrainer", "build_app", "load_space", "read_dataset", "trainable", "tune_search"]
