"""CloudWatch metrics without a call: one line a tick in the embedded metric format."""

from __future__ import annotations

from typing import Any

from autoscaler.aws import Outcome
from autoscaler.decision import Action, Decision, Snapshot

NAMESPACE = "ClassReflect/Whisper"


def metrics_line(snapshot: Snapshot, decision: Decision, outcome: Outcome) -> dict[str, Any]:
    instance = snapshot.instance
    running = instance is not None and instance.state == "running"
    uptime = (snapshot.now - instance.launch_time).total_seconds() / 3600 if instance and running else 0.0
    done = outcome is Outcome.DONE
    metrics = {
        "Backlog": (snapshot.backlog, "Count"),
        "InstanceRunning": (int(running), "Count"),
        "InstanceMissing": (int(decision.action is Action.ALARM), "Count"),
        "UptimeHours": (round(uptime, 3), "None"),
        "Starts": (int(done and decision.action is Action.START), "Count"),
        "Stops": (int(done and decision.action in (Action.STOP, Action.FORCE_STOP)), "Count"),
        "Restarts": (int(done and decision.action is Action.RESTART), "Count"),
        "CapacityErrors": (int(outcome is Outcome.NO_CAPACITY), "Count"),
        "IncorrectStates": (int(outcome is Outcome.INCORRECT_STATE), "Count"),
    }
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
