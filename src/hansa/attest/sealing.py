"""Checkpoints sealed by a key of the hardware, each chained to the one before it.

A part is encrypted by AES-GCM in pieces under a key of its own (HKDF of the attester's sealing key
and a random salt, RFC 5869), with run, round and nodes as what is authenticated beside it. A whole
checkpoint has a number, a tag over what it consists of and the tag of the one before it; the
newest one's stands in ``chain.json``. So a part of another round, node or run does not open, and a
checkpoint that is not the newest is refused.

What this cannot do: who puts back *all* files of a run, ``chain.json`` too, as they were earlier,
is not noticed here, as there is no counter that he cannot put back. Peers notice: they have done
later rounds. A run whose every member is put back at once goes on from there.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hansa.base.errors import CheckpointError
from hansa.base.files import write_json
from hansa.base.lazy import Lazy
from hansa.engine.runtimes.sealer import MAGIC

aead: Any = Lazy("cryptography.hazmat.primitives.ciphers.aead")
hashes: Any = Lazy("cryptography.hazmat.primitives.hashes")
hkdf: Any = Lazy("cryptography.hazmat.primitives.kdf.hkdf")

CHAIN = "chain.json"
"""Beside the checkpoints of a run: which was the newest."""
_PIECE, _TAG, _SALT = 1 << 24, 16, 32  # bytes
_FILES, _LINKS = b"hansa sealed file 1", b"hansa chain of checkpoints 1"
_FORM = {"run": str, "number": int, "round": int, "head": str, "mac": str}


def run_of(root: Path) -> str:
    """What names a run's chain of checkpoints: 32 hex digits, new where there is none."""
    chain = _read(root / CHAIN)
    return chain["run"] if chain else secrets.token_hex(16)


class Sealing:
    """Seals and chains: :class:`hansa.engine.runtimes.sealer.Sealer`.

    Args:
        key: the attester's, at least 16 bytes.
        run: as of :func:`run_of`.
    """

    def __init__(self, key: bytes, run: str) -> None:
        if len(key) < 16:
            raise ValueError(f"a sealing key of {len(key)} bytes; at least 16 are needed")
        self._key, self._run = key, run
        self._links = self._derived(_LINKS, run.encode())

    def _derived(self, label: bytes, salt: bytes) -> bytes:
        made: bytes = hkdf.HKDF(hashes.SHA256(), 32, salt, label).derive(self._key)
        return made

    # Parts

    def seal(self, data: bytes, about: Mapping[str, Any]) -> bytes:
        """``data``, readable for nobody but this code on this chip."""
        salt = os.urandom(_SALT)
        cipher, beside = aead.AESGCM(self._derived(_FILES, salt)), self._beside(about)
        pieces = [
            cipher.encrypt(nonce, data[at : at + _PIECE], beside)
            for nonce, at in _nonces(len(data), _PIECE)
        ]
        return MAGIC + salt + b"".join(pieces)

    def open(self, data: bytes, about: Mapping[str, Any]) -> bytes:
        """What was sealed as what ``about`` says.

        Raises:
            CheckpointError: it was not, or not by this code on this chip, or was altered.
        """
        from cryptography.exceptions import InvalidTag

        body = memoryview(data)[len(MAGIC) + _SALT :]
        salt = data[len(MAGIC) : len(MAGIC) + _SALT]
        cipher, beside = aead.AESGCM(self._derived(_FILES, salt)), self._beside(about)
        try:
            if data[: len(MAGIC)] != MAGIC or len(body) < _TAG:
                raise InvalidTag
            return b"".join(
                cipher.decrypt(nonce, body[at : at + _PIECE + _TAG], beside)
                for nonce, at in _nonces(len(body), _PIECE + _TAG)
            )
        except InvalidTag:
            what = ", ".join(f"{name} {value}" for name, value in about.items())
            problem = f"a sealed part does not open as that of {what}: it was altered or moved"
            raise CheckpointError(
                f"{problem}, or sealed by other code or on another chip"
            ) from None

    def _beside(self, about: Mapping[str, Any]) -> bytes:
        return _text({"run": self._run, **about})

    # Whole checkpoints

    def link(self, root: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Number, the tag of the one before, and a tag over all of it."""
        before = self._newest(root)
        link = {
            "run": self._run,
            "number": before["number"] + 1 if before else 0,
            "previous": before["head"] if before else "",
        }
        return {**link, "tag": self._tag(link, json.loads(json.dumps(facts)))}  # as it is read

    def linked(self, root: Path, chain: Mapping[str, Any]) -> None:
        """Note it as the newest."""
        self._write(root, chain)

    def check(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Refuse what is not the newest checkpoint of this run as it was sealed.

        Raises:
            CheckpointError: says what it is instead.
        """
        link = facts.get("chain")
        if not isinstance(link, dict) or not isinstance(link.get("tag"), str):
            raise CheckpointError(f"{folder}: has no link to the checkpoints before it")
        own = {name: link.get(name) for name in ("run", "number", "previous")}
        if own["run"] != self._run or not hmac.compare_digest(link["tag"], self._tag(own, facts)):
            problem = "was altered, spliced from other checkpoints, or sealed elsewhere"
            raise CheckpointError(f"{folder}: {problem}")
        newest = self._newest(folder.parent)
        if newest is None:
            raise CheckpointError(f"{folder.parent / CHAIN}: is gone, which says what is newest")
        if link["tag"] == newest["head"]:
            return
        if link["previous"] == newest["head"] and link["number"] == newest["number"] + 1:
            self._write(folder.parent, link | {"round": facts["round"]})  # it was killed in between
            return
        raise CheckpointError(
            f"{folder}: is rolled back: checkpoint {newest['number']} of round {newest['round']} "
            f"was sealed, and this is number {link['number']} of round {facts['round']}"
        )

    def _tag(self, link: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
        said = {"link": link, "facts": {k: v for k, v in facts.items() if k != "chain"}}
        return hmac.digest(self._links, _text(said), "sha256").hex()

    def _newest(self, root: Path) -> dict[str, Any] | None:
        chain = _read(root / CHAIN)
        if chain is None:
            return None
        said = {name: chain[name] for name in ("run", "number", "round", "head")}
        if chain["run"] != self._run or not hmac.compare_digest(chain["mac"], self._mac(said)):
            raise CheckpointError(f"{root / CHAIN}: was altered, or is of another run")
        return chain

    def _write(self, root: Path, link: Mapping[str, Any]) -> None:
        said = {
            "run": self._run, "number": link["number"], "round": link["round"], "head": link["tag"]
        }  # fmt: skip
        write_json(root / CHAIN, {**said, "mac": self._mac(said)})

    def _mac(self, said: Mapping[str, Any]) -> str:
        return hmac.digest(self._links, b"newest" + _text(said), "sha256").hex()


def _nonces(size: int, piece: int) -> Iterator[tuple[bytes, int]]:
    """(nonce, first byte) of each piece: its number, and whether it is the last.

    Pieces are in order and all there if they open (the STREAM construction: Hoang et al., 2015).
    """
    count = max(1, -(-size // piece))
    for number in range(count):
        yield number.to_bytes(11, "big") + bytes((number == count - 1,)), number * piece


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _read(path: Path) -> dict[str, Any] | None:
    """A chain's file, as far as its form goes; None: there is none.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        with path.open("rb") as file:
            chain = json.loads(file.read(1 << 16))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(chain, dict) or any(type(chain.get(k)) is not t for k, t in _FORM.items()):
        raise CheckpointError(f"{path}: is no chain of checkpoints")
    return chain
