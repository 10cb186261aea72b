"""A server's sessions on disk: their secrets, and the requests of the query under way.

Replies are not kept: a session is deterministic, so they come out the same from the requests.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hansa.infer.private.protocol.frames import OPENING, Frame
from hansa.infer.private.protocol.owned_files import append, frames_in, own_folder, write_whole

_FACTS, _OPENING, _QUERY = "session.json", "opening.frames", "query.frames"


@dataclass(frozen=True)
class SessionFacts:
    """What a session is: whose, of which program, its seeds.

    Attributes:
        identity: the client's.
        program: digest of program and scheme.
        mask_seed: of the client's public key, public.
        secret: of everything that the server draws.
    """

    session: bytes
    identity: str
    program: bytes
    mask_seed: bytes
    secret: bytes


class SessionFiles:
    """A folder of sessions.

    Args:
        most: bytes of a request's body at most.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = own_folder(folder), most

    def make(self, facts: SessionFacts) -> None:
        """Keep a new session, on the disk when this returns."""
        place = own_folder(self._place(facts.session))
        text = {
            "identity": facts.identity,
            "program": facts.program.hex(),
            "mask_seed": facts.mask_seed.hex(),
            "secret": facts.secret.hex(),
        }
        write_whole(place / _FACTS, json.dumps(text).encode())

    def all(self) -> Iterator[tuple[SessionFacts, float]]:
        """Every session that was kept whole, and when it was last used (seconds of the epoch)."""
        for place in sorted(self._folder.iterdir()):
            try:
                read = json.loads((place / _FACTS).read_text())
                facts = SessionFacts(
                    bytes.fromhex(place.name),
                    str(read["identity"]),
                    *(bytes.fromhex(read[name]) for name in ("program", "mask_seed", "secret")),
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue  # its making was cut short, or somebody put it there
            times = [path.stat().st_mtime for path in place.iterdir()]
            yield facts, max(times)

    def opening(self, session: bytes) -> list[Frame]:
        """The requests of the opening."""
        return frames_in(self._place(session) / _OPENING, self._most)

    def query(self, session: bytes) -> list[Frame]:
        """The requests of the last query that began."""
        return frames_in(self._place(session) / _QUERY, self._most)

    def accept(self, frame: Frame) -> None:
        """Add a request to those of its query; the first one ends the query before."""
        if frame.query == OPENING:
            append(self._place(frame.session) / _OPENING, frame, sync=False)
        elif frame.step == 0:
            write_whole(self._place(frame.session) / _QUERY, frame.encode(), sync=False)
        else:
            append(self._place(frame.session) / _QUERY, frame, sync=False)

    def forget(self, session: bytes) -> None:
        """Remove all of a session."""
        shutil.rmtree(self._place(session), ignore_errors=True)

    def _place(self, session: bytes) -> Path:
        return self._folder / session.hex()
