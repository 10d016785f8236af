"""Editable installs: link `.dev/freshline/<name>` to the folders that are the package `freshline`."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LINKS = {name: name for name in ("flows", "deployments", "runs", "lineage", "storage", "prefect.yaml")}
LINKS |= {"__init__.py": "flows/_freshline.py", "py.typed": "flows/py.typed"}


class LinkPackage(BuildHookInterface):  # type: ignore[type-arg]
    """Make the links that `dev-mode-dirs` puts on the path; ordinary wheels need none."""

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Create the links when an editable wheel is built."""
        if version != "editable":
            return
        package = Path(self.root, ".dev", "freshline")
        package.mkdir(parents=True, exist_ok=True)
        for name, target in LINKS.items():
            link = package / name
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..", "..", target))
