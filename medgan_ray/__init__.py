"""medgan-ray: train, search and serve generators of medical scans on Ray.

Importing it costs neither torch nor Ray: names are looked up when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medgan_ray.inference.model import load_model
    from medgan_ray.on_ray.face import GANTrainer, build_app, load_space, read_dataset, trainable, tune_search
    from medgan_ray.verbs.evaluate import evaluate_run
    from medgan_ray.verbs.generate import generate_scans
    from medgan_ray.verbs.ingest import ingest_scans
    from medgan_ray.verbs.promote import promote_version
    from medgan_ray.verbs.publish import publish_run
    from medgan_ray.verbs.recognize import recognize_scans

_HOMES = {
    "GANTrainer": "medgan_ray.on_ray.face",
    "build_app": "medgan_ray.on_ray.face",
    "evaluate_run": "medgan_ray.verbs.evaluate",
    "generate_scans": "medgan_ray.verbs.generate",
    "ingest_scans": "medgan_ray.verbs.ingest",
    "load_model": "medgan_ray.inference.model",
    "load_space": "medgan_ray.on_ray.face",
    "promote_version": "medgan_ray.verbs.promote",
    "publish_run": "medgan_ray.verbs.publish",
    "read_dataset": "medgan_ray.on_ray.face",
    "recognize_scans": "medgan_ray.verbs.recognize",
    "trainable": "medgan_ray.on_ray.face",
    "tune_search": "medgan_ray.on_ray.face",
}

__all__ = [
    "GANTrainer",
    "__version__",
    "build_app",
    "evaluate_run",
    "generate_scans",
    "ingest_scans",
    "load_model",
    "load_space",
    "promote_version",
    "publish_run",
    "read_dataset",
    "recognize_scans",
    "trainable",
    "tune_search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
