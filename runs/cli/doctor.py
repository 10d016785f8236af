"""Whether everything works: doctor."""

import click

from .output import console, json_option, print_json, table


@click.command()
@json_option
def doctor(*, as_json: bool) -> int:
    """Try out the database, the object store and Prefect, and say what to do. Leaves nothing behind."""
    from ...storage.settings import load_settings
    from ..checkup import check_up, is_sound, shown_settings
    from . import EXIT_FAILED

    settings = load_settings()
    out, checks = console(), []
    if as_json:
        checks = list(check_up(settings))
        print_json({"ok": is_sound(checks), "settings": shown_settings(settings), "checks": checks})
        return 0 if is_sound(checks) else EXIT_FAILED
    out.print(table("Settings", ("variable", "value"), shown_settings(settings).items()))
    with out.status("trying out the database") as status:
        for check in check_up(settings):
            checks.append(check)
            status.update(f"trying out: {check.area}, after {check.name}")
    rows = (
        (
            check.area,
            check.name,
            check.outcome,
            None if check.took_s is None else f"{check.took_s * 1000:,.0f} ms",
            check.detail,
        )
        for check in checks
    )
    out.print(table("Checks", ("of", "check", "outcome", "took", "what was found"), rows))
    broken = sum(check.outcome == "broken" for check in checks)
    out.print(f"{broken} of {len(checks)} checks failed" if broken else "Everything works.")
    return EXIT_FAILED if broken else 0
