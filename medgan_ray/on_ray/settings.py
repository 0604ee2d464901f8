"""What Ray adds to the configuration: the sections ``ray``, ``tune`` and ``serve``. Imports no Ray."""

from typing import Literal

from pydantic import Field

from medgan_ray.config import Section
from medgan_ray.verbs.config import Config


class RaySettings(Section):
    """Where a verb runs, and what happens when something there dies."""

    gpus_per_worker: Literal["auto"] | float = "auto"
    """GPUs of a worker; auto: one where the cluster has enough, none otherwise."""
    cpus_per_worker: float = Field(1.0, gt=0)
    """CPU slots of a worker."""
    shared_paths: bool = False
    """Local paths are seen by all nodes (NFS); without it, a cluster of several nodes takes s3:// only."""
    max_failures: int = Field(3, ge=0)
    """How often a run goes on by itself after workers died, before it gives up."""
    collective_timeout_s: float = Field(300.0, gt=0)
    """How long a step may wait for a slow worker, seconds; one that is stopped is noticed much sooner."""
    worker_health_check_timeout_s: float = Field(8.0, gt=0)
    """How long a worker's process may not answer before the workers are started anew, seconds."""
    worker_group_start_timeout_s: float | None = Field(None, gt=0)
    """How long to wait for room for all workers, seconds; by default 600, and 5 where their number is elastic."""
    elastic_resize_monitor_interval_s: float = Field(60.0, gt=0)
    """How often an elastic run looks whether more workers fit, seconds; growing goes back to the newest checkpoint."""


class TuneSettings(Section):
    """How trials of a search are placed."""

    max_concurrent: int | None = Field(None, ge=1)
    """Trials at a time; by default as many as the CPU slots (or GPUs) hold."""


class ServeSettings(Section):
    """The HTTP service."""

    host: str = "127.0.0.1"
    """Address to listen on; another than loopback needs keys."""
    port: int = Field(8000, ge=1, le=65535)
    """Port to listen on."""
    keys_file: str | None = None
    """File with one API key a line, beside those in MEDGAN_API_KEYS (separated by commas)."""
    replicas: int = Field(1, ge=1)
    """Processes that hold the models."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """GPUs of a replica."""
    max_images: int = Field(256, ge=1)
    """Images asked for and not yet answered, a replica; beyond it the answer is 503 at once."""
    wait_s: float = Field(30.0, gt=0)
    """How long a request may wait for its turn before the answer is 408, seconds."""


class PlacedConfig(Config):
    """The whole configuration: what every verb knows, and what Ray adds."""

    ray: RaySettings = RaySettings()
    """Placement on Ray."""
    tune: TuneSettings = TuneSettings()
    """Searches."""
    serve: ServeSettings = ServeSettings()
    """The HTTP service."""
