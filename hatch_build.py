"""The build of the package `freshline` out of the folders at the root.

`pyproject.toml` maps the folders for a wheel. Here are the single files, and the links `.dev/freshline/<name>`
through which an editable install imports the checkout.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = {name: name for name in ("flows", "deployments", "runs", "lineage", "storage")}
FILES = {"__init__.py": "flows/_freshline.py", "py.typed": "flows/py.typed", "prefect.yaml": "prefect.yaml"}


class LinkPackage(BuildHookInterface):  # type: ignore[type-arg]
    """Link the checkout for an editable install; put the single files in place for a wheel."""

    def initialize(self, version: str, build_data: dict[str, dict[str, str]]) -> None:
        """Called by hatchling before it builds; `version` is "standard" or "editable"."""
        if version != "editable":
            build_data["force_include"].update({path: f"freshline/{name}" for name, path in FILES.items()})
            return
        package = Path(self.root, ".dev", "freshline")
        package.mkdir(parents=True, exist_ok=True)
        for name, target in (FOLDERS | FILES).items():
            link = package / name
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..", "..", target))
