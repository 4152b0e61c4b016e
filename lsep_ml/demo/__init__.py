"""A page to try a classifier on, and the verb of the command line that serves it; heavy imports happen inside it."""

from typing import Annotated

import typer

from lsep_ml.bundle.commands import Allow, Device, Source
from lsep_ml.terminal import say


def demo_command(
    source: Source,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the page listens.")] = 7860,
    host: Annotated[
        str, typer.Option("--host", help="This machine alone, unless another address is given.")
    ] = "127.0.0.1",
    device: Device = None,
    allow: Allow = None,
) -> None:
    """Serve a page to try a classifier on: drop an image, see scores and labels, move the decision's knob."""
    from lsep_ml.bundle.classifier import load
    from lsep_ml.demo.page import check_address, serve

    check_address(host, port)
    page = serve(load(source, device=device, allow=allow or ()), host, port)
    say(f"the page is at {page.local_url} until Ctrl-C")
    page.block_thread()
