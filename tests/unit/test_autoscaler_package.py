"""The autoscaler's zip: the same bytes from the same source, and nothing in it that Lambda would not have."""

from __future__ import annotations

import ast
import io
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from ops.autoscaler.package import AUTOSCALER, CONTRACTS, key_of, pack
from ops.settings import Stack
from tests.templates import template

BUILT_IN = {"boto3", "botocore"}
"""Of what is not the standard library, the Lambda runtime has these."""


def test_the_same_source_makes_the_same_bytes_whatever_the_clock_and_the_modes(tmp_path: Path) -> None:
    copy = tmp_path / "autoscaler"
    shutil.copytree(AUTOSCALER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "handler.cpython-311.pyc").write_bytes(b"not source")
    assert pack(copy) == pack()


def test_another_source_has_another_key(tmp_path: Path) -> None:
    copy = tmp_path / "autoscaler"
    shutil.copytree(AUTOSCALER, copy)
    (copy / "decision.py").write_text((copy / "decision.py").read_text() + "\n")
    assert key_of(pack(copy)) != key_of(pack())


def test_the_zip_holds_the_handler_where_the_template_looks_for_it() -> None:
    names = zipfile.ZipFile(io.BytesIO(pack())).namelist()
    assert {"autoscaler/handler.py", "contracts/tags.py"} <= set(names)
    assert all(name.endswith(".py") for name in names)


@pytest.mark.parametrize(
    "module",
    sorted([*AUTOSCALER.glob("*.py"), *CONTRACTS.glob("*.py")]),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_contracts_import_the_standard_library_alone_and_the_autoscaler_what_lambda_has_too(module: Path) -> None:
    allowed = {*sys.stdlib_module_names, "contracts"}
    if module.parent == AUTOSCALER:
        allowed |= {*BUILT_IN, "autoscaler"}
    for node in _run_at_runtime(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in allowed


def _run_at_runtime(tree: ast.Module) -> list[ast.stmt]:
    """Its imports, without those under `if TYPE_CHECKING`."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and not _typing(node, tree)
    ]


def _typing(node: ast.AST, tree: ast.Module) -> bool:
    blocks = [b for b in tree.body if isinstance(b, ast.If) and ast.unparse(b.test) == "TYPE_CHECKING"]
    return any(node in ast.walk(block) for block in blocks)


def test_the_function_runs_on_arm64() -> None:
    function = template(Stack.AUTOSCALER)["Resources"]["Function"]["Properties"]
    assert (function["Architectures"], function["Runtime"]) == (["arm64"], "python3.11")


@pytest.mark.parametrize("stack", [Stack.FOUNDATION, Stack.AUTOSCALER])
def test_every_parameter_is_described(stack: Stack) -> None:
    undescribed = [key for key, value in template(stack)["Parameters"].items() if not value.get("Description")]
    assert undescribed == []


@pytest.mark.parametrize("stack", [Stack.FOUNDATION, Stack.AUTOSCALER])
def test_no_role_may_do_everything_anywhere(stack: Stack) -> None:
    """No `*` action, and a `*` resource only for services that know no ARN."""
    without_arn = {"ssmmessages", "ec2messages", "cloudwatch"}
    roles = [r for r in template(stack)["Resources"].values() if r["Type"] == "AWS::IAM::Role"]
    assert roles
    for role in roles:
        properties = role["Properties"]
        assert "ManagedPolicyArns" not in properties
        for statement in (s for p in properties["Policies"] for s in p["PolicyDocument"]["Statement"]):
            listed = statement["Action"]
            actions = [listed] if isinstance(listed, str) else listed
            assert not [action for action in actions if "*" in action]
            if statement["Resource"] == "*":
                assert all(a.partition(":")[0] in without_arn or a == "ec2:DescribeInstances" for a in actions)
