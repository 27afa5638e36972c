"""CloudWatch metrics without a call: one line a tick in the embedded metric format.

CloudWatch charges for a metric only in hours in which it is published. So an idle system publishes one: whether
machines run. Its average is the share of time they did. Any other metric is left out while it is zero.
"""

from __future__ import annotations

from typing import Any

from autoscaler.instance_adapter import Outcome
from autoscaler.model import Action, Decision, Group, Snapshot
from contracts.metrics import INSTANCE_RUNNING, NAMESPACE, UPLOAD_BYTES

_ALWAYS = INSTANCE_RUNNING


def metrics_line(
    snapshot: Snapshot, decision: Decision, outcome: Outcome, upload_bytes: float | None = None
) -> dict[str, Any]:
    """`upload_bytes` is the size of the recording whose upload triggered the tick."""
    group, instance = snapshot.group, snapshot.instance
    launched = group.oldest_launch if group else None
    running = group.in_service if group else 0
    if instance is not None and instance.state == "running":
        running, launched = 1, instance.launch_time
    done = outcome is Outcome.DONE
    metrics = {
        _ALWAYS: (running, "Count"),
        "InstanceMissing": (int(decision.action is Action.ALARM), "Count"),
        "UptimeHours": (round((snapshot.now - launched).total_seconds() / 3600, 3) if launched else 0.0, "None"),
        "Starts": (_started(group, decision) if done else 0, "Count"),
        "Stops": (int(done and decision.action in (Action.STOP, Action.FORCE_STOP)), "Count"),
        "Restarts": (int(done and decision.action is Action.RESTART), "Count"),
        "CapacityErrors": (int(outcome is Outcome.NO_CAPACITY), "Count"),
        "IncorrectStates": (int(outcome is Outcome.INCORRECT_STATE), "Count"),
    }
    if group is not None:
        metrics |= {
            "FleetDesired": (decision.desired or group.desired, "Count"),
            "FleetInService": (group.in_service, "Count"),
            "FleetSilent": (len(group.silent), "Count"),
        }
        if decision.needed is not None:
            short = max(0, decision.needed - group.maximum)
            metrics |= {"FleetNeeded": (decision.needed, "Count"), "FleetShort": (short, "Count")}
    if upload_bytes is not None:
        metrics[UPLOAD_BYTES] = (upload_bytes, "Bytes")
    metrics = {name: (value, unit) for name, (value, unit) in metrics.items() if value or name == _ALWAYS}
    return {
        "_aws": {
            "Timestamp": int(snapshot.now.timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [[]],
                    "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in metrics.items()],
                }
            ],
        },
        **{name: value for name, (value, _) in metrics.items()},
    }


def _started(group: Group | None, decision: Decision) -> int:
    """How many machines this tick asked for."""
    if decision.action is Action.SCALE_OUT and group is not None and decision.desired is not None:
        return decision.desired - group.desired
    return int(decision.action is Action.START)
