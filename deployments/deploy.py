"""From a catalogue to Prefect deployments, through Prefect's own deploy command.

Owns which deployments are handed over and how Prefect's refusal is passed on. Registers nothing of ours.

The command gets a copy of prefect.yaml that has only the deployments asked for, and runs in the catalogue's
directory: its choice by name (`-n`) would also take other deployments of the same name under another flow,
and one process for all is quicker than one for each. The result is that of `prefect deploy --all`.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from ..storage.errors import CatalogError, PrefectError
from .catalog import Catalog, DeploymentSpec
from .document import plain, read_document
from .gateway import DeploymentFacts, Gateway

_DEPLOY_WITHIN_S = 600.0
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FRAME = re.compile(r"^[\s│╭╮╰╯─┃━|+•]+|[\s│╭╮╰╯─┃━|]+$")
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Failure|NotFound)\b(?::\s*|$)")


def deploy_catalog(
    catalog: Catalog,
    gateway: Gateway,
    *,
    keys: Collection[str] | None = None,
    timeout_s: float = _DEPLOY_WITHIN_S,
) -> dict[str, DeploymentFacts]:
    """Create or update the Prefect deployments of the catalogue; external ones have none.

    The Prefect server is the one that this process's environment names; `gateway` must talk to the same.
    Idempotent. Work pools are checked before anything is deployed; should Prefect still refuse one
    deployment, those before it in the file are deployed.

    Args:
        catalog: a valid catalogue.
        gateway: reads back what was deployed.
        keys: deploy these keys (or Prefect names) only; None deploys all.
        timeout_s: how long Prefect's command may take, in seconds.

    Returns:
        Key -> the deployment as Prefect has it now.

    Raises:
        NotFound: a key is not in the catalogue.
        CatalogError: a work pool does not exist.
        PrefectError: Prefect cannot be reached, or refused; the message is Prefect's own.
    """
    wanted = [catalog.get(key) for key in keys] if keys is not None else catalog.deployments
    specs = [spec for spec in wanted if not spec.external]
    if not specs:
        return {}
    _check_work_pools(specs, gateway)
    with tempfile.TemporaryDirectory(prefix="freshline-deploy-") as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(_reduced(catalog, {spec.key for spec in specs}), encoding="utf-8")
        _run_prefect_deploy(file, directory=catalog.directory, timeout_s=timeout_s)
    return read_deployed(specs, gateway)


def read_deployed(specs: Collection[DeploymentSpec], gateway: Gateway) -> dict[str, DeploymentFacts]:
    """Return key -> the deployment as Prefect has it; external ones have none. Changes nothing.

    Raises:
        NotFound: Prefect has no deployment of that name.
        PrefectError: Prefect cannot be reached.
    """
    return {spec.key: gateway.read_deployment(spec.prefect_name) for spec in specs if spec.prefect_name is not None}


def _check_work_pools(specs: Collection[DeploymentSpec], gateway: Gateway) -> None:
    """Refuse a work pool that does not exist: Prefect would find out with half of the file deployed."""
    pools = gateway.read_work_pool_names()
    for spec in specs:
        pool = spec.work_pool or _default_work_pool()
        if pool is None:
            raise CatalogError(
                "has no work pool; write `work_pool: {name: …}`, one of: " + (", ".join(pools) or "none exists"),
                deployment=spec.deployment_name,
                line=spec.line,
            )
        if pool not in pools:
            raise CatalogError(
                f"there is no work pool {pool!r} at {gateway.api_url} (there: {', '.join(pools) or 'none'}); make it "
                f"with `prefect work-pool create {pool} --type process`, or correct `work_pool`",
                deployment=spec.deployment_name,
                line=spec.line,
            )


def _default_work_pool() -> str | None:
    from prefect.settings import get_current_settings

    return get_current_settings().deployments.default_work_pool_name


def _reduced(catalog: Catalog, keys: Collection[str]) -> str:
    """Return prefect.yaml with only these deployments."""
    document: dict[str, Any] = {key: plain(value) for key, value in read_document(catalog.path).items()}
    document["deployments"] = [entry for entry in document.get("deployments") or () if _key_of(entry) in keys]
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _key_of(entry: Any) -> str | None:
    block = entry.get("resource") if isinstance(entry, Mapping) else None
    return f"{block.get('runs')}/{block.get('name')}" if isinstance(block, Mapping) else None


def _run_prefect_deploy(file: Path, *, directory: Path, timeout_s: float) -> None:
    # -P: the project's own folders must not stand in for installed packages while Prefect itself is imported.
    command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "1000"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PrefectError(
            f"`prefect deploy` did not end within {timeout_s:.0f} s; see whether the Prefect server answers"
        ) from None
    if done.returncode != 0:
        raise PrefectError(f"`prefect deploy` refused: {_reason(done.stdout)}")


def _reason(output: str) -> str:
    """Return what Prefect said last, without frames, colours and tracebacks."""
    lines = [_FRAME.sub("", _TERMINAL_CODES.sub("", line)) for line in output.splitlines()]
    lines = [line for line in lines if line and line != "An exception occurred."]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    if exceptions:
        return _EXCEPTION.sub("", exceptions[-1]) or exceptions[-1]
    return " ".join(lines[-3:]) or "it gave no reason"
