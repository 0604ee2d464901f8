"""Which samples must stay in one split: those of a patient, copies of an image, and near-duplicates."""

from collections.abc import Iterable, Sequence


class Union:
    """Sets of numbers that grow together (union-find with path halving)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def join(self, members: Iterable[int]) -> None:
        """Make one set of the sets of these numbers."""
        roots = sorted({self.root(member) for member in members})
        for root in roots[1:]:
            self._parents[root] = roots[0]

    def root(self, member: int) -> int:
        """Return the number that names a member's set: its least."""
        while self._parents[member] != member:
            self._parents[member] = self._parents[self._parents[member]]
            member = self._parents[member]
        return member


def together(
    subjects: Sequence[str], near: Sequence[tuple[int, ...]], copied: Iterable[Iterable[str]] = ()
) -> list[str]:
    """Return a name for each sample's group; samples of one group stay in one split.

    Args:
        subjects: who each sample is of; empty if unknown.
        near: sets of samples that are almost the same image.
        copied: sets of subjects that have an image in common.
    """
    union = Union(len(subjects))
    members: dict[str, list[int]] = {}
    for position, subject in enumerate(subjects):
        if subject:
            members.setdefault(subject, []).append(position)
    for some in (*members.values(), *near):
        union.join(some)
    for people in copied:
        union.join(members[subject][0] for subject in people if subject in members)
    return [f"group {union.root(position)}" for position in range(len(subjects))]


def split_by(groups: Sequence[str], splits: Sequence[str]) -> dict[str, set[str]]:
    """Return the splits in which each group stands."""
    found: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        found.setdefault(group, set()).add(split)
    return found
