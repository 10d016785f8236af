"""A small project on disk, with module names of its own: modules stay loaded for the whole test session."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent

from freshline.deployments.catalog import Catalog, load_catalog
from freshline.storage.errors import InvalidInput

_numbers = itertools.count(1)


@dataclass
class Project:
    """A directory with prefect.yaml and one module of flows and callables."""

    directory: Path
    module: str = field(default_factory=lambda: f"project_{next(_numbers)}")

    def write_flows(self, text: str = "") -> None:
        """Write the module: a tracked flow per kind, called by the kind's name, then `text`."""
        flows = ["from prefect import flow"]
        for kind in ("refresh", "preview", "training", "inference", "optimize", "backtest", "monitoring"):
            flows.append(
                f"def _{kind}(n: int = 1, label: str = 'x'): ...\n"
                f"_{kind}.__freshline_kind__ = '{kind}'\n"
                f"{kind} = flow(name='{kind}')(_{kind})"
            )
        flows.append("def fetch(): return 1\nTABLE = 3")
        body = "\n".join([*flows, dedent(text)])
        (self.directory / f"{self.module}.py").write_text(body)

    def write_yaml(self, text: str) -> None:
        """Write prefect.yaml; `MODULE` in it stands for the module's name."""
        (self.directory / "prefect.yaml").write_text(dedent(text).replace("MODULE", self.module))

    def write_deployments(self, *blocks: str) -> None:
        """Write prefect.yaml with these entries of `deployments:`, each beginning with its name."""
        entries = [indent(dedent(block).strip("\n"), "    ").replace("    ", "  - ", 1) for block in blocks]
        self.write_yaml("deployments:\n" + "\n".join(entries) + "\n")

    def load(self, **options: object) -> Catalog:
        """Load the catalogue, with a policy check that refuses what has the key `bad`."""
        return load_catalog(
            self.directory / "prefect.yaml",
            **({"check_policy": refuse_bad} | options),  # type: ignore[arg-type]
        )


def refuse_bad(policy: object) -> None:
    """Refuse a policy with the key `bad`."""
    if "bad" in policy:  # type: ignore[operator]
        raise InvalidInput("freshness.bad is no policy; write max_age")
