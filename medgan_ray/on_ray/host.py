"""The surroundings of one rank on Ray Train: reports, gauges, a wish to stop, a notice that a node is taken away."""

import time
from typing import TYPE_CHECKING, Any

from medgan_ray.on_ray import gauges, session
from medgan_ray.on_ray.ledger import judge

if TYPE_CHECKING:
    from medgan_ray.on_ray.board import Board

PROGRESS_S = 1.0
REMIND_S = 10.0


class RayHost:
    """The surroundings of one rank on Ray Train.

    Args:
        board: messages to and from the driver.
        metric: the figure by which a search compares runs.
        run: the run's URI, by which its gauges are told from others'.
    """

    def __init__(self, board: "Board", metric: str = "score", run: str = "") -> None:
        import ray.train

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self._board, self._metric, self._run = board, metric, run
        self._reported, self._asked, self._stop = 0.0, 0.0, False
        self._noticed: Any = None
        self._heeded: Any = None
        self._remind = 0.0

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        """Report to Ray on every rank (it is a barrier), and to the driver from rank 0."""
        import ray.train

        if self.rank == 0:
            self._board.send({"kind": "report", "images": images, "figures": figures, "checkpoint": checkpoint})
            self.gauges(figures)
        self._heeded = self._noticed
        ray.train.report({**figures, "images": images, "score": judge(figures, self._metric)})

    def progress(self, images: int, total: int, rate: float) -> None:
        """Tell the driver, at most once a second, and set the gauges that are known here."""
        now = time.monotonic()
        if self.rank == 0 and (now - self._reported > PROGRESS_S or images >= total):
            self._reported = now
            self._board.send({"kind": "progress", "images": images, "total": total, "rate": rate})
            self.gauges({"images": images, "images_per_s": rate, "workers": self.world})

    def gauges(self, values: dict[str, float]) -> None:
        """Set Prometheus gauges (see ``gauges.DESCRIPTIONS``); what isn't finite is left as it was."""
        gauges.put(values, self._run, self.rank)

    def should_stop(self) -> bool:
        """Say whether the driver asked to stop; looked up at most once a second."""
        now = time.monotonic()
        if not self._stop and now - self._asked > PROGRESS_S:
            self._asked, self._stop = now, bool(self._board.get("stop"))
        return self._stop

    def should_checkpoint(self) -> bool:
        """Say whether a node of this run is to be taken away; once a notice, and again where nothing is reported.

        Ray's ``get_preemption_info`` is a barrier that all ranks must enter equally often; this reads what it would
        send, on this rank alone, so ranks may differ for a moment and must agree before they act.
        """
        notice = session.private("train_context")().preemption_context.preemption_info
        now = time.monotonic()
        if notice is None or notice == self._heeded or (notice == self._noticed and now < self._remind):
            return False
        self._noticed, self._remind = notice, now + REMIND_S
        return True

    def log(self, text: str) -> None:
        """Pass a line to the driver; ranks other than 0 sign theirs."""
        self._board.send({"kind": "log", "text": text if self.rank == 0 else f"rank {self.rank}: {text}"})
