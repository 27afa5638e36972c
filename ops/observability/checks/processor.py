"""The second path: the processor does not run."""

from __future__ import annotations

from contracts.heartbeat import is_silent, parse_heartbeat
from contracts.names import SERVICE
from contracts.tags import HEARTBEAT_TAG
from ops.aws import run_command
from ops.aws.connection import tags_of
from ops.observability.checks.base import Context, Step, Wrong, on_machine, running_instance
from ops.observability.queues import read_queue
from ops.releases.store import on_processes, read_wanted, running_release

IMPORTS = "python3.11 -c \"import whisper; import boto3; print('All imports OK')\""


def check_ssm(context: Context) -> str:
    instance_id = running_instance(context)["InstanceId"]
    if not run_command.is_online(context.aws, instance_id):
        raise Wrong(f"{instance_id} is not online", "make stop start (the agent, its role or its way to AWS)")
    return f"{instance_id} is online"


def check_service(context: Context) -> str:
    ended = on_machine(context, f"systemctl is-active {SERVICE}")
    if not ended.succeeded:
        said = ended.stdout.strip() or ended.stderr.strip()
        raise Wrong(f"{SERVICE} is {said}", "make run-processor (shows why it fails), make logs")
    return f"{SERVICE} is active"


def check_imports(context: Context) -> str:
    ended = on_machine(context, IMPORTS)
    if not ended.succeeded:
        said = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise Wrong(said, "make run-processor (or deploy the processor or the image again)")
    return ended.stdout.strip()


def check_release(context: Context) -> str:
    wanted = read_wanted(context.aws)
    if wanted is None:
        return "none is wanted; each appliance runs its image's"
    name = wanted.release.name
    running: list[str] = []
    for instance in context.aws.instances():
        runs = running_release(instance)
        if instance["State"]["Name"] == "running" and runs is not None and runs != name:
            running.append(f"{instance['InstanceId']} runs {runs}")
    if running and not on_processes(context.aws):
        raise Wrong(f"{name} is wanted, {', '.join(running)}", "make logs (update_ended says why), make rollback")
    return f"{name} is wanted; stopped appliances install it at their next boot"


def check_heartbeat(context: Context) -> str:
    instance = running_instance(context)
    instance_id = instance["InstanceId"]
    heartbeat = parse_heartbeat(tags_of(instance).get(HEARTBEAT_TAG))
    if heartbeat is None:
        raise Wrong(f"{instance_id} has none", "make logs (the worker writes it at its start)")
    age = context.now - heartbeat.at
    if is_silent(heartbeat, context.now):
        raise Wrong(f"the last one is {age.total_seconds() / 60:.0f} min old", "make stop start")
    return f"{age.total_seconds():.0f} s old"


def check_dead_letters(context: Context) -> str:
    dead = read_queue(context.aws).dead
    if dead:
        raise Wrong(f"{dead} lessons could not be done", "make dlq, then make redrive")
    return "none"


CHECKS: tuple[tuple[str, Step], ...] = (
    ("SSM", check_ssm),
    ("service", check_service),
    ("imports", check_imports),
    ("release", check_release),
    ("heartbeat", check_heartbeat),
    ("dead letters", check_dead_letters),
)
