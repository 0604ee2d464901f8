"""The list of options is pinned: a new one is a decision, and has a line in the change log."""

from collections.abc import Iterator

from pydantic import BaseModel

from medgan_ray.on_ray.settings import PlacedConfig

OPTIONS = """
size images batch seed workers time_limit_s task
ingest.window ingest.labels ingest.groups ingest.color ingest.text ingest.secondary ingest.derived
ingest.keep ingest.crop ingest.spacing_mm ingest.max_aspect
ingest.slices ingest.near_duplicates
ingest.allow_leakage ingest.min_contrast ingest.workers ingest.file_limit_s ingest.memory_mb
split.val split.test split.seed
data.cache data.cache_bytes data.on_bad_shard data.span_shards data.balance
model.name model.latent model.generator_width model.discriminator_width model.recognizer_width
train.loss train.lr train.lr_final train.beta2 train.beta2_final train.gamma train.gamma_final train.burn_in
train.ema_share
train.penalty_every train.checkpoint_images train.keep_checkpoints train.keep_every
train.micro_batch train.most_rollbacks train.log_images train.figure_samples
train.floor_draws train.logit_adjustment train.targets train.coverage
train.given train.head train.noise_sd train.dose train.precision train.init_from
train.synthetic train.synthetic_scans train.synthetic_share
train.freeze_discriminator train.freeze_trunk train.writers
augment.probability augment.control augment.target augment.speed_images
augment.shift augment.flip augment.rotate_degrees augment.scale
augment.brightness augment.contrast augment.noise augment.cutout
evaluate.extractor evaluate.samples evaluate.neighbors evaluate.utility evaluate.draws evaluate.rules
publish.license publish.use
ray.gpus_per_worker ray.cpus_per_worker ray.shared_paths ray.max_failures ray.collective_timeout_s
ray.worker_health_check_timeout_s ray.worker_group_start_timeout_s ray.elastic_resize_monitor_interval_s
tune.max_concurrent
serve.host serve.port serve.keys_file serve.replicas serve.gpus_per_replica serve.max_images serve.wait_s
"""


def test_no_option_comes_or_goes_unnoticed():
    assert list(_names(PlacedConfig)) == OPTIONS.split()


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _names(section, f"{prefix}{name}.")
        else:
            yield prefix + name
