"""Start or join a Ray instance safely: loopback sockets, a token of its own, no telemetry; and Ray's private names.

    with session.local(address=None, cpus=2):     # a Ray instance of this process, gone at the end
        ...

Ray reads much of its environment when it is imported, so ``prepare`` runs before the first import. Whatever this
package touches of Ray's private names stands in ``_PRIVATE`` and is reached by ``private`` alone, which refuses any
other version of Ray than the one these names were read in.
"""

import contextlib
import importlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medgan_ray.errors import InputError, MedganError, StoreError, UsageError
from medgan_ray.on_ray import timeouts

RAY_VERSION = "2.60.0"
LOOPBACK = "127.0.0.1"
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" binds every core socket to 127.0.0.1
CONNECT_TIMEOUT_S = 5

_PRIVATE = {
    "constants": "ray._private.ray_constants",
    "raylet_config": "ray._raylet:Config",
    "token_loader": "ray._raylet:AuthenticationTokenLoader",
    "replica": "ray.serve._private.replica",
    "prepare_cluster_file": "ray.autoscaler._private.util:prepare_config",
    "validate_cluster_file": "ray.autoscaler._private.util:validate_config",
    "train_context": "ray.train.v2._internal.execution.context:get_train_context",
    "kv_put": "ray.experimental.internal_kv:_internal_kv_put",
    "kv_get": "ray.experimental.internal_kv:_internal_kv_get",
    "kv_list": "ray.experimental.internal_kv:_internal_kv_list",
    "kv_delete": "ray.experimental.internal_kv:_internal_kv_del",
}

_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    **timeouts.TRAIN,
    "RAY_worker_niceness": "0",  # training is what the machine is for: not behind Ray's own agents
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
}
_LOCAL = {
    **timeouts.CORE,
    LOOPBACK_SWITCH: "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def private(name: str) -> Any:
    """Return one of Ray's private names that this package uses (a key of ``_PRIVATE``).

    Raises:
        MedganError: if the installed Ray isn't the version in which the name was read.
    """
    import ray

    if ray.__version__ != RAY_VERSION:
        fix = f"install ray=={RAY_VERSION}, or check every name in on_ray/session.py against the new version"
        raise MedganError(f"Ray {ray.__version__} is not the version this package knows", name, fix)
    module, _, attribute = _PRIVATE[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine's loopback."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


def on_loopback() -> bool:
    """Say whether the Ray instance of this process keeps to loopback (workers inherit the switch)."""
    return os.environ.get(LOOPBACK_SWITCH) == "0"


def prepare(loopback: bool) -> dict[str, str | None]:
    """Set the environment that Ray reads; return what stood there before, for ``restore``.

    Args:
        loopback: for an instance of this machine alone: all sockets on 127.0.0.1, and token authentication.
    """
    wanted = dict(_ALWAYS)
    if loopback:
        wanted |= _LOCAL
    parent = str(Path(__file__).resolve().parents[2])
    paths = os.environ.get("PYTHONPATH", "")
    if parent not in paths.split(os.pathsep):
        wanted["PYTHONPATH"] = os.pathsep.join(filter(None, [parent, paths]))
    forced = {LOOPBACK_SWITCH, "RAY_AUTH_MODE", "PYTHONPATH"}
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        if name in forced or before[name] is None:
            os.environ[name] = value
    _reread()
    return before


def restore(before: dict[str, str | None]) -> None:
    """Put the environment back to what ``prepare`` found."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _reread()


def _reread() -> None:
    """Let a Ray that was imported before see the environment: it read switch, token mode and token then."""
    if "ray" in sys.modules:
        private("constants").ENABLE_RAY_CLUSTER = not on_loopback()
        if not importlib.import_module("ray").is_initialized():
            private("raylet_config").initialize("")
            private("token_loader").instance().reset_cache()


def resolve(address: str | None) -> str | None:
    """Return the address of the cluster to join (``address``, or RAY_ADDRESS), or None for an own local instance."""
    address = address or os.environ.get("RAY_ADDRESS")
    return None if address in (None, "", "local") else address


@contextlib.contextmanager
def local(
    address: str | None = None, cpus: int | None = None, gpus: int | None = None, dashboard: bool = False
) -> Iterator[Path]:
    """Join the Ray instance at ``address`` or start one of this machine, and leave or end it afterwards.

    An instance that the program has initialized itself is used as it is and left alone.

    Args:
        address: ``host:port`` of a cluster; None reads RAY_ADDRESS and otherwise starts a local instance.
        cpus: CPU slots of a local instance; None for as many as the machine has.
        gpus: GPU slots of a local instance; None for as many as the machine has.
        dashboard: start the dashboard of a local instance (on loopback); nested trials need it.

    Yields:
        A temporary folder for whatever Ray wants to write beside our own artifacts; it is removed at the end.

    Raises:
        StoreError: if the cluster can't be reached or refuses the token.
    """
    scratch = Path(tempfile.mkdtemp(prefix="medgan-ray-"))
    try:
        if "ray" in sys.modules and importlib.import_module("ray").is_initialized():
            before = prepare(on_loopback())
            try:
                yield scratch
            finally:
                restore(before)
            return
        address = resolve(address)
        starter = _joined(address) if address else _started(scratch, cpus, gpus, dashboard)
        with starter:
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _started(scratch: Path, cpus: int | None, gpus: int | None, dashboard: bool) -> Iterator[None]:
    before = prepare(loopback=True)
    before |= {name: os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")}
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(write_token(scratch / "token"))
    import ray

    _reread()

    try:
        with quiet():
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=dashboard,
                dashboard_host=LOOPBACK,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            yield
    finally:
        ray.shutdown()
        restore(before)


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    loopback = bool(host) and is_loopback(host) and _only_on_loopback(int(port)) if port.isdigit() else on_loopback()
    before = prepare_joining(loopback)
    import ray

    _reread()

    try:
        _check_reachable(address)
        with quiet():
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=_package())
            except (ConnectionError, RuntimeError, OSError, ray.exceptions.RayError) as error:
                raise no_cluster(address, error) from error
            yield
    finally:
        ray.shutdown()
        restore(before)


def prepare_joining(loopback: bool) -> dict[str, str | None]:
    """Set the environment as ``prepare`` does, and the token mode by whether a token is at hand."""
    mode = os.environ.get("RAY_AUTH_MODE")
    before = prepare(loopback)
    before["RAY_AUTH_MODE"] = mode
    if mode is not None:
        os.environ["RAY_AUTH_MODE"] = mode
    elif has_token():
        os.environ["RAY_AUTH_MODE"] = "token"
    else:
        os.environ.pop("RAY_AUTH_MODE", None)
    return before


def has_token() -> bool:
    """Say whether a token for a Ray cluster is at hand, where Ray itself looks for one."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or str(Path.home() / ".ray" / "auth_token")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).is_file()


def write_token(path: Path) -> Path:
    """Write a fresh 32-byte token that only this user can read; return ``path``."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def _package() -> dict[str, Any] | None:
    """Bring this package along to a cluster, unless this is a job whose runtime environment already does."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return None
    return {"py_modules": [str(Path(__file__).resolve().parents[1])]}


def _check_reachable(address: str) -> None:
    """Fail at once, rather than after Ray's own retries, where nobody listens."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise no_cluster(address, error) from error


def no_cluster(address: str, error: Exception) -> MedganError:
    """Return what a person is told who can't join the cluster at ``address``."""
    if isinstance(error, ValueError):
        return UsageError("not an address of a Ray cluster", address, "give host:port")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    fix = "check the address, and that RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH holds the cluster's own token"
    return StoreError(f"cannot join the Ray cluster: {reason}", address, fix)


def _only_on_loopback(port: int) -> bool:
    """Say whether a port of this machine answers on 127.0.0.1 and not on its outer address."""
    try:
        outer = socket.gethostbyname(socket.gethostname())
        if is_loopback(outer):
            return True
        socket.create_connection((outer, port), 1).close()
    except OSError:
        return True
    return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray's notices off standard error; errors stay, and everything is in Ray's own log files."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.serve", "ray.tune")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def node_host() -> str:
    """Return the address on which a process of this node should listen for its peers."""
    import ray

    return LOOPBACK if on_loopback() else str(ray.util.get_node_ip_address())


def check_paths(*uris: str, shared: bool) -> None:
    """Refuse local paths on a cluster of several nodes, unless they are shared.

    Raises:
        UsageError: naming the first such path.
    """
    import ray

    from medgan_ray.store import is_remote

    if shared or sum(node["Alive"] for node in ray.nodes()) <= 1:
        return
    for uri in uris:
        if not is_remote(uri):
            raise UsageError(
                "a local path on a cluster of several nodes", uri, "give s3://…, or ray.shared_paths=true if all see it"
            )


def keep_replica_on_loopback() -> None:
    """Bind the calling Serve replica's internal gRPC server, which Ray hard-wires to all interfaces, to 127.0.0.1.

    Called from the deployment's ``__init__``, which runs before the server binds. Does nothing on a real cluster,
    where other nodes must reach the replica.
    """
    if not on_loopback():
        return
    replica = private("replica")
    original = replica.add_port_to_grpc_server

    def on_loopback_only(server: Any, address: str) -> Any:
        return original(server, address.replace("[::]", LOOPBACK))

    replica.add_port_to_grpc_server = on_loopback_only


def check_cluster_file(path: str | Path) -> dict[str, Any]:
    """Return a Ray cluster launcher file with its defaults filled in, checked by Ray's own validator.

    Raises:
        InputError: if the file is missing.
        UsageError: if Ray refuses it.
    """
    from medgan_ray.config import parse_yaml

    try:
        values = parse_yaml(Path(path).read_text("utf-8"), str(path))
    except OSError as error:
        raise InputError("cannot read the cluster file", str(path), error.strerror or "") from None
    try:
        prepared: dict[str, Any] = private("prepare_cluster_file")(values)
        private("validate_cluster_file")(prepared)
    except MedganError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"Ray refuses the cluster file: {lines[0]}", str(path), "compare with cluster.yaml") from error
    return prepared
