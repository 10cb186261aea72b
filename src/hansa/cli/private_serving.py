"""``hansa infer private keygen``, ``serve`` and ``client``: private inference over a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, home

app = typer.Typer()


@app.command("keygen")
def keygen(
    out: Annotated[
        Path,
        typer.Option("--out", help="The folder to put them in.", metavar="DIR", callback=home),
    ],
    role: Annotated[str, typer.Option(help="Whose: server or client.", metavar="ROLE")] = "server",
    days: Annotated[int, typer.Option(help="How long they hold.", min=1, max=3650)] = 825,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a private key and the certificate that the other side pins.

    The certificate (.crt.pem) may be given to anybody, the key never. The keys of the encryption
    itself are made anew for every session.
    """
    with answering(as_json, debug) as answer:
        from hansa.infer.private.protocol.pins import ROLES, make_identity

        chosen = next((one for one in ROLES if one == role), None)
        if chosen is None:
            raise ConfigError("role", role, "is none", "server or client")
        made = make_identity(out, chosen, days)
        answer.data = {
            "role": role,
            "certificate": str(made.certificate),
            "key": str(made.key),
            "fingerprint": made.fingerprint,
        }
        other = "clients pin" if role == "server" else "a server may ask for"
        answer.line(f"certificate  {made.certificate}, which {other}")
        answer.line(f"key          {made.key}, which is yours alone")
        answer.line(f"fingerprint  {made.fingerprint}")
