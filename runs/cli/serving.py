"""The API and the page alone: serve."""

import click

from .output import console
from .stack import on_terminate, print_page, settled


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", type=click.IntRange(0, 65535), help="FRESHLINE_API_PORT by default; 0: any that is free.")
def serve(*, host: str, port: int | None) -> None:
    """Serve the REST API and the page, without anything else; several may run at once. Ctrl-C ends it."""
    from .. import logs
    from ..api.access import is_loopback
    from ..api.serving import Serving
    from ..composition import open_freshline

    freshline = open_freshline()
    logs.configure(freshline.settings.log_format)
    out = console()
    with Serving(freshline, host=host, port=port) as serving, settled():
        closed = on_terminate()
        out.print(f"API: {serving.url}/api/v1", soft_wrap=True)
        print_page(out, serving)
        if not is_loopback(host):
            out.print("Others reach it: it speaks no TLS, so put a proxy before it; every request needs the token.")
        while not closed.wait(1.0):
            serving.check()
    freshline.database.dispose()
