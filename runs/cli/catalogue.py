"""Acts on prefect.yaml: deploy, init."""

from pathlib import Path

import click

from ...storage.errors import InvalidInput
from .output import console, json_option, print_json, say, table
from .progress import busy


@click.command()
@click.argument("catalogue", type=click.Path(path_type=Path), default=Path("prefect.yaml"))
@click.option("--register-only", is_flag=True, help="Prefect has the deployments already: only register them.")
@click.option("--check", "check_only", is_flag=True, help="Only validate the file.")
@json_option
def deploy(*, catalogue: Path, register_only: bool, check_only: bool, as_json: bool) -> None:
    """Check CATALOGUE (prefect.yaml) as a whole, deploy it with Prefect, and register it."""
    from ...deployments.deploy import deploy_catalog, read_deployed
    from ..composition import open_freshline
    from ..register import Registrar

    freshline = open_freshline()
    gateway = freshline.gateway()
    registrar = Registrar(freshline, gateway)
    catalog = registrar.load(catalogue)
    if check_only and as_json:
        print_json({"catalogue": str(catalog.path), "deployments": list(catalog.keys)})
        return
    if check_only:
        say(f"{catalog.path}: {len(catalog.deployments)} deployments, all of them valid")
        return
    verb = "registers what is deployed at" if register_only else "changes the deployments at"
    say(f"freshline deploy {verb} {gateway.api_url}", err=True)
    with busy(f"deploying {len(catalog.deployments)} deployments"):
        facts = read_deployed(catalog.deployments, gateway) if register_only else deploy_catalog(catalog, gateway)
        done = registrar.register(catalog, facts)
    if as_json:
        print_json(done)
        return
    words = {key: word for word in ("created", "changed", "unchanged", "retired") for key in getattr(done, word)}
    console().print(table("Registered", ("deployment", "what happened"), sorted(words.items())))


@click.command()
@click.argument("catalogue", type=click.Path(path_type=Path), default=Path("prefect.yaml"))
@click.option(
    "--resource",
    "resources",
    multiple=True,
    required=True,
    metavar="DEPLOYMENT=KIND/RUNS/NAME",
    help="Such as daily=dataset/refresh/prices: the deployment `daily` refreshes the dataset `prices`.",
)
@json_option
def init(*, catalogue: Path, resources: tuple[str, ...], as_json: bool) -> None:
    """Add resource blocks to the prefect.yaml that you have; what it says and its comments stay."""
    from ...deployments.initialize import initialize

    told = initialize(catalogue, dict(_assignment(text) for text in resources))
    if as_json:
        print_json({"catalogue": str(catalogue), "messages": told})
        return
    for line in told:
        say(line)


def _assignment(text: str) -> tuple[str, tuple[str, str, str]]:
    deployment, _, rest = text.partition("=")
    parts = rest.split("/")
    if not deployment or len(parts) != 3 or not all(parts):
        raise InvalidInput(
            f"--resource {text!r}: write DEPLOYMENT=KIND/RUNS/NAME, such as daily=dataset/refresh/prices"
        )
    kind, runs, name = parts
    return deployment, (name, kind, runs)
