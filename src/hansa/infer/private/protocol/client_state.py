"""A client's session on disk: its secret, and every reply before it is used.

What a client sends is drawn from its secret, its input and the replies so far. A second reply to
the same request that differed from the first would make it send two messages under one mask, whose
difference tells of its data. So a reply is on the disk before anything is made of it, and after
that it is read from there and never asked for again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa import __version__
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import writing
from hansa.infer.private.protocol.frames import OPENING, Frame, Kind, pack_facts, unpack_facts
from hansa.infer.private.protocol.owned_files import append, frames_in, own_folder, write_whole

_FACTS, _LOCK = "session.json", "lock"
_OPENING, _REPLIES, _ANSWERS = "opening.frames", "replies.frames", "answers.frames"
_MOST = 1 << 30


@dataclass(frozen=True)
class ClientFacts:
    """A session as its client has to know it to go on.

    Attributes:
        session: its name.
        secret: of everything that the client draws; never leaves its folder.
        pin: the server's fingerprint.
        welcome: digest of what the server said that it serves.
        rows: digest of what is asked about.
    """

    session: bytes
    secret: bytes
    pin: str
    welcome: bytes
    rows: str


def digest_of(rows: np.ndarray, stored: bool = False) -> str:
    """SHA-256 of rows' numbers, whatever shape each row has, and of how they are read."""
    array = np.ascontiguousarray(rows, np.float64)
    head = f"{len(array)} {array.size} {'stored ' if stored else ''}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


class ClientState:
    """A folder that holds one session of a client, its owner's alone.

    Raises:
        ConfigError: another process uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = own_folder(folder)
        with writing(folder):
            self._handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            problem = "is in use by another process"
            raise ConfigError("state", str(folder), problem, "another folder") from None

    @property
    def begun(self) -> bool:
        """Whether it holds a session."""
        return (self.folder / _FACTS).is_file()

    def begin(self, facts: ClientFacts) -> None:
        """Keep a new session."""
        text = {
            "session": facts.session.hex(),
            "secret": facts.secret.hex(),
            "pin": facts.pin,
            "welcome": facts.welcome.hex(),
            "rows": facts.rows,
            "hansa": __version__,
        }
        for name in (_OPENING, _REPLIES, _ANSWERS):
            write_whole(self.folder / name, b"")
        write_whole(self.folder / _FACTS, json.dumps(text).encode())

    def facts(self) -> ClientFacts:
        """The session that it holds.

        Raises:
            CheckpointError: there is none, it is damaged, or another version of hansa began it,
            which may have laid out its numbers otherwise.
        """
        path = self.folder / _FACTS
        try:
            read = json.loads(path.read_text())
            if read["hansa"] != __version__:
                problem = f"was begun by hansa {read['hansa']}, this is {__version__}"
                raise CheckpointError(f"{path} {problem}: begin another in another folder")
            session, secret, welcome = (
                bytes.fromhex(read[name]) for name in ("session", "secret", "welcome")
            )
            return ClientFacts(session, secret, str(read["pin"]), welcome, str(read["rows"]))
        except FileNotFoundError:
            raise CheckpointError(f"{self.folder} holds no session to go on with") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error})") from None

    def replies(self, query: int) -> list[bytes]:
        """The replies of a query that were kept, from the first step on."""
        path = self._log(query)
        frames = [frame for frame in frames_in(path, _MOST) if frame.query == query]
        if [frame.step for frame in frames] != list(range(len(frames))):
            raise CheckpointError(f"{path} is damaged: steps are missing")
        return [frame.body for frame in frames]

    def keep_reply(self, frame: Frame) -> None:
        """Keep a reply; it is on the disk when this returns."""
        append(self._log(frame.query), frame, sync=True)

    def answers(self) -> dict[int, dict[str, np.ndarray]]:
        """The arrays of each query that is through."""
        found: dict[int, dict[str, np.ndarray]] = {}
        for frame in frames_in(self.folder / _ANSWERS, _MOST):
            arrays = unpack_facts(frame.body, arrays=dict)["arrays"]
            found[frame.query] = {
                name: np.frombuffer(data, np.int64).reshape(shape)
                for name, (shape, data) in arrays.items()
            }
        return found

    def keep_answer(self, session: bytes, query: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep what a query came to, and let go of its replies."""
        plain = {
            name: (list(array.shape), np.ascontiguousarray(array, np.int64).tobytes())
            for name, array in arrays.items()
        }
        frame = Frame(Kind.REPLY, session, query, 0, pack_facts({"arrays": plain}))
        append(self.folder / _ANSWERS, frame, sync=True)
        with writing(self.folder):
            os.truncate(self.folder / _REPLIES, 0)

    def clear(self) -> None:
        """Forget the session: secret first."""
        for name in (_FACTS, _OPENING, _REPLIES, _ANSWERS):
            with suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def _log(self, query: int) -> Path:
        return self.folder / (_OPENING if query == OPENING else _REPLIES)

    def close(self) -> None:
        """Let others use the folder."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


@contextmanager
def state_in(folder: Path | None) -> Iterator[ClientState | None]:
    """A folder's state while it is used; None: nothing is kept."""
    state = None if folder is None else ClientState(folder)
    try:
        yield state
    finally:
        if state is not None:
            state.close()
