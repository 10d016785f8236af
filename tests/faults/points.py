"""The named points of each act, in the order in which a process comes to them."""

_CLAIM = (
    "claim.begin", "claim.ensured", "claim.gated", "claim.fenced", "claim.pinned", "claim.before_commit",
    "claim.committed",
)  # fmt: skip
_RECORD = ("record.before_commit", "record.committed")

KILL_POINTS: dict[str, tuple[str, ...]] = {
    "submit": ("submit.begin", "submit.inserted", "submit.before_commit", "submit.committed"),
    "dispatch": (
        "dispatch.begin", "dispatch.claimed", "dispatch.before_call", "dispatch.called", "dispatch.before_commit",
        "dispatch.settled",
    ),
    "claim": _CLAIM + _RECORD,
    "complete": (
        *_CLAIM, *_RECORD, "complete.begin", "complete.begun", "complete.guarded", "complete.locked",
        "complete.published", "complete.recomputed", "complete.ended", "complete.before_commit", "complete.committed",
    ),
    "fail": (*_CLAIM, *_RECORD, "fail.before_commit", "fail.committed"),
    "cancel": ("cancel.before_commit", "cancel.committed"),
    "reconcile": (
        "reconcile.begin", "reconcile.expiring", "reconcile.expired", "reconcile.closing", "reconcile.closed",
        "reconcile.adopting", "reconcile.adopted",
    ),
}  # fmt: skip
"""Where a process may die: everywhere. By act; what a worker does depends on how its body ends."""

KILL_OFTEN = frozenset({"complete", "fail", "claim"})
"""Those of a worker: it has the most of them."""

PARK_POINTS: dict[str, tuple[str, ...]] = {
    act: tuple(point for point in points if not point.endswith("before_commit")) for act, points in KILL_POINTS.items()
}
"""Where a process may stand still: it does so only when it is outside of a transaction there."""

POINTS = frozenset(point for points in KILL_POINTS.values() for point in points)
"""All of them."""
