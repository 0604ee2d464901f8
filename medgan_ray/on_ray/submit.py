"""The verb ``submit``: any other verb as a Ray job, with this package and the files it names brought along.

medgan-ray submit --address 10.0.0.5:8265 train s3://bucket/heads s3://bucket/run workers=8
"""

import asyncio
import contextlib
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_ray.errors import InputError, Interrupted, MedganError, UsageError
from medgan_ray.on_ray import session

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

LARGEST_UPLOAD = 100 * 1024 * 1024
"""Bytes that a dashboard takes as one request."""
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CARRIED = ("--config", "--space", "--subjects-from")
"""Options whose value is a local file that the verb reads where it runs."""
OWN_PLACEMENT = ("train", "tune", "serve", "demo")
"""Verbs that place their work on Ray; the others work in the job's own process, which gets a CPU slot for it."""
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
AGENT_WITHIN_S = 30.0
_RETRY_S = 1.0
_log = logging.getLogger("medgan_ray")


def submit(
    words: Sequence[str],
    address: str | None = None,
    detach: bool = False,
    output: Callable[[str], None] | None = None,
) -> int:
    """Run a verb as a Ray job, follow its log and return its exit code.

    Args:
        words: the verb and what follows it, as on the command line. Files named by ``--config`` and ``--space`` travel
            along; data must stand where the cluster reaches them.
        address: the cluster's dashboard, ``host:port`` or a URL; None reads RAY_ADDRESS, then 127.0.0.1:8265.
        detach: leave the job running, and say how to follow it.
        output: takes the job's log as it comes; standard output by default.

    Raises:
        UsageError: without a verb, or if what would travel is too large.
        InputError: if a named file is missing.
        StoreError: if the cluster can't be reached or refuses the token.
        Interrupted: on Ctrl-C; the job goes on.
    """
    if not words:
        raise UsageError("no verb to submit", "", "name one: medgan-ray submit train DATASET RUN")
    url = dashboard(address or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS)
    write = output or _write
    with tempfile.TemporaryDirectory(prefix="medgan-ray-") as folder, _client(url) as client, session.quiet():
        job = _started(client, url, words, folder)
        how = f"follow it with: ray job logs --follow --address {url} {job}"
        if detach:
            _log.info("job %s runs; %s", job, how)
            return 0
        _log.info("job %s; Ctrl-C leaves it running", job)
        try:
            return _followed(client, job, write)
        except KeyboardInterrupt:
            raise Interrupted(f"job {job} goes on", url, how) from None


def _started(client: "JobSubmissionClient", url: str, words: Sequence[str], folder: str) -> str:
    """Start the job and return its id; a head that has only just begun is waited for."""
    entrypoint = shlex.join(["python", "-m", "medgan_ray", *pack(words, Path(folder))])
    slots = 0 if words[0] in OWN_PLACEMENT else 1
    environment = {"working_dir": folder, "env_vars": _environment()}
    deadline = time.monotonic() + AGENT_WITHIN_S
    while True:
        try:
            job: str = client.submit_job(
                entrypoint=entrypoint, runtime_env=environment, entrypoint_num_cpus=slots, metadata={"verb": words[0]}
            )
            return job
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise session.no_cluster(url, error) from error
            time.sleep(_RETRY_S)


def dashboard(address: str) -> str:
    """Return the dashboard's URL for ``host:port`` or a URL.

    Raises:
        UsageError: for anything else.
    """
    if address.startswith(("http://", "https://")):
        return address.rstrip("/")
    if re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d+", address):
        return f"http://{address}"
    raise UsageError("not the address of a Ray dashboard", address, "give host:port, usually port 8265")


def pack(words: Sequence[str], folder: Path) -> list[str]:
    """Put this package and the files that ``words`` name into ``folder``; return the words as they are there.

    Raises:
        InputError: if a file is missing.
        UsageError: if it is too large to travel.
    """
    package = Path(__file__).resolve().parents[1]
    shutil.copytree(package, folder / package.name, ignore=LEFT_OUT)
    carried: list[str] = []
    previous = ""
    for word in words:
        option, equals, value = word.partition("=")
        if previous in CARRIED and word != "-":
            carried.append(_carried(word, folder))
        elif option in CARRIED and equals:
            carried.append(f"{option}={_carried(value, folder)}")
        else:
            carried.append(word)
        previous = word
    _check_size(folder)
    return carried


def _carried(name: str, folder: Path) -> str:
    source = Path(name)
    inputs = folder / "inputs"
    inputs.mkdir(exist_ok=True)
    target = inputs / f"{len(list(inputs.iterdir()))}-{source.name}"
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise InputError("cannot read a file that the job needs", name, error.strerror or "") from None
    return target.relative_to(folder).as_posix()


def _check_size(folder: Path) -> None:
    """Refuse what the dashboard would: it takes one compressed upload."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        size = file.tell()
    if size >= LARGEST_UPLOAD:
        fix = f"a job may bring {LARGEST_UPLOAD >> 20} MiB; put large files into a store"
        raise UsageError(f"{size >> 20} MiB would travel", str(folder), fix)


def _environment() -> dict[str, str]:
    """Return what a job needs of this environment: where the store and the trackers are, never a secret."""
    store = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    trackers = ("MLFLOW_EXPERIMENT_NAME", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_MODE", "WANDB_PROJECT")
    found = {name: os.environ[name] for name in (*store, *trackers) if name in os.environ}
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking and "@" not in tracking:  # user:password@host stays here
        found["MLFLOW_TRACKING_URI"] = tracking
    return found | {"PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def _client(url: str) -> "Iterator[JobSubmissionClient]":
    """Connect; Ray would let RAY_ADDRESS overrule the address that was asked for."""
    before = session.prepare_joining(loopback=session.on_loopback())
    before |= {name: os.environ.pop(name, None) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")}
    try:
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        try:
            client = JobSubmissionClient(url)
        except (ConnectionError, RuntimeError, OSError, RayError) as error:
            raise session.no_cluster(url, error) from error
        yield client
    finally:
        session.restore(before)


def _followed(client: "JobSubmissionClient", job: str, write: Callable[[str], None]) -> int:
    """Hand on the log until the job ends, and return its exit code."""

    async def follow() -> None:
        async for lines in client.tail_job_logs(job):
            write(lines)

    while not client.get_job_status(job).is_terminal():
        with contextlib.suppress(ConnectionError, RuntimeError, OSError):
            asyncio.run(follow())
        time.sleep(0 if client.get_job_status(job).is_terminal() else _RETRY_S)
    info = client.get_job_info(job)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    if str(info.status) == "STOPPED":
        raise Interrupted("the job was stopped", job, "submit it again; it goes on where it stopped")
    if str(info.status) == "SUCCEEDED":
        return 0
    raise MedganError(f"the job failed: {(info.message or '').strip().splitlines()[-1:]}", job, "see its log")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
