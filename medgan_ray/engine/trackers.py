"""MLflow and Weights & Biases as writers; a run that goes on goes on in the same run of theirs.

RUN/writers/mlflow.json, RUN/writers/wandb.json    the identifier of the tracker's run
RUN/mlflow/, RUN/wandb/                            what they keep where no server is named

Both packages are opt-in (``medgan-ray[mlflow]``, ``medgan-ray[wandb]``) and imported when a run opens them. They are
told the run's options, figures and previews; nothing of the dataset but its manifest's digest, and nothing of the
machine. Their own reports home are switched off unless the environment says otherwise.
"""

import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from PIL import Image

from medgan_ray.artifacts.runs import RUN, read_json, write_json
from medgan_ray.errors import UsageError
from medgan_ray.host import Writer
from medgan_ray.store import Store

PROJECT = "medgan-ray"
"""The experiment (MLflow) or project (Weights & Biases) that runs stand in unless the environment names another."""
_TOLD = ("seed", "batch", "images", "task", "model", "train", "augment")
"""The options that are told: none of them holds a path or an address."""
_PLACES = ("train.init_from", "train.synthetic", "train.synthetic_from", "train.writers")


class Mlflow:
    """A run of MLflow: on the server of MLFLOW_TRACKING_URI, or in files below RUN/mlflow."""

    def __init__(self, run: Store, segment: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or run.path("mlflow").as_uri())
        self._run = self._known(run) or self._new(run)

    def scalars(self, images: int, figures: Mapping[str, float]) -> None:
        """Take figures; the step is images seen."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(name, value, now, images) for name, value in figures.items()])

    def image(self, name: str, images: int, png: bytes) -> None:
        """Take a picture; the step is images seen."""
        self._client.log_image(self._run, Image.open(io.BytesIO(png)), key=name, step=images)

    def flush(self) -> None:
        """Do nothing: every call is written at once."""

    def close(self) -> None:
        """Mark the run as finished; going on marks it as running again."""
        self._client.set_terminated(self._run, "FINISHED")

    def _known(self, run: Store) -> str | None:
        """Return the run that an earlier attempt began, if this server or folder has it."""
        from mlflow.exceptions import MlflowException

        kept = read_json(run, "writers/mlflow.json")
        if not kept:
            return None
        try:
            self._client.update_run(str(kept["run"]), status="RUNNING")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return str(kept["run"])

    def _new(self, run: Store) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = self._client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment else self._client.create_experiment(name)
        facts = _facts(run)
        made = self._client.create_run(where, run_name=_name(run), tags={"medgan_ray.manifest": facts["manifest"]})
        identifier = str(made.info.run_id)
        write_json(run, "writers/mlflow.json", {"run": identifier})
        self._client.log_batch(identifier, params=[Param(key, str(value)) for key, value in facts["options"].items()])
        return identifier


class Wandb:
    """A run of Weights & Biases: online with WANDB_MODE=online or a WANDB_API_KEY, else in files below RUN/wandb."""

    def __init__(self, run: Store, segment: str) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        mode, facts = _wandb_mode(), _facts(run)
        kept = read_json(run, "writers/wandb.json")
        identifier = str(kept["run"]) if kept else secrets.token_hex(4)
        self._picture = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=identifier,
            name=_name(run),
            config={**facts["options"], "manifest": facts["manifest"]},
            allow_val_change=True,
            dir=str(run.path()) if run.is_local and "WANDB_DIR" not in os.environ else None,
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        write_json(run, "writers/wandb.json", {"run": identifier})
        self._run.define_metric("*", step_metric="images")

    def scalars(self, images: int, figures: Mapping[str, float]) -> None:
        """Take figures; the horizontal axis is images seen."""
        self._run.log({**figures, "images": images})

    def image(self, name: str, images: int, png: bytes) -> None:
        """Take a picture."""
        self._run.log({name: self._picture(Image.open(io.BytesIO(png))), "images": images})

    def flush(self) -> None:
        """Do nothing: a process of W&B's own writes."""

    def close(self) -> None:
        """End this attempt; another one goes on in the same run."""
        self._run.finish()


def _wandb_mode() -> str:
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")


def _mlflow_needs(run: Store) -> None:
    if not run.is_local and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UsageError("MLflow keeps files on this machine only", run.uri, "set MLFLOW_TRACKING_URI to a server")


def _wandb_needs(run: Store) -> None:
    if not run.is_local and _wandb_mode() == "offline" and not os.environ.get("WANDB_DIR"):
        fix = "set WANDB_API_KEY, or WANDB_DIR to a folder"
        raise UsageError("W&B, offline, keeps files on this machine only", run.uri, fix)


def _name(run: Store) -> str:
    return run.uri.rstrip("/").rsplit("/", 1)[-1]


def _facts(run: Store) -> dict[str, Any]:
    """Return the digest of the manifest, and the options as dotted keys."""
    asked = read_json(run, RUN) or {"config": {}, "manifest": ""}
    told = {key: value for key, value in asked["config"].items() if key in _TOLD}
    options = {key: value for key, value in _dotted(told) if key not in _PLACES}
    return {"manifest": str(asked["manifest"]), "options": options}


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


TRACKERS: dict[str, Callable[[Store, str], Writer]] = {"mlflow": Mlflow, "wandb": Wandb}
NEEDS: dict[str, Callable[[Store], None]] = {"mlflow": _mlflow_needs, "wandb": _wandb_needs}
"""What must be so before a tracker is asked for: each raises UsageError if it isn't."""
