"""Tells the driver why a group of workers is started anew: a callback that Ray Train's controller calls."""

from typing import Any

from ray.train import UserCallback

from medgan_ray.on_ray.board import Board


class Notices(UserCallback):  # type: ignore[misc]
    """Passes on in a line what ended a worker, unless it is a refusal, which the driver raises itself.

    Args:
        board: the name of the run's board.
    """

    def __init__(self, board: str) -> None:
        self._board = Board(board)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Name the first worker that failed, and how many did."""
        if self._board.refusal() is not None:
            return
        rank, error = min(worker_exceptions.items(), key=lambda item: item[0])
        others = f" and {len(worker_exceptions) - 1} more" if len(worker_exceptions) > 1 else ""
        text = f"worker {rank}{others} failed: {cause(error)}; the workers start again from the newest checkpoint"
        self._board.send({"kind": "log", "text": text})


def cause(error: BaseException) -> str:
    """Return what an error says in its last line, or in the one before what only describes the worker."""
    lines = [line.strip() for line in str(error).partition("Worker info:")[0].splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
