"""A platform behind HTTP: rows in JSON, or the Open Inference Protocol (V2).

A call carries the header ``Idempotency-Key`` (and the same word as ``id``), so that a platform can
tell a call that comes again from a new one (the IETF's draft of that header field).

What an answer's status says of a query (RFC 9110, 15):

- 2xx: it is answered;
- 429, 503, and a connection that is refused: it was not taken; the same call is made again after
  ``Retry-After``, or after a wait that doubles;
- 408, 500, 502, 504, a connection that breaks, an answer that is late or not of the form: nobody
  knows. It is spent. It is made again, under its key, only where ``repeats: free`` says that the
  platform does not count it twice;
- any other: the audit stops, and says why.
"""

from __future__ import annotations

import datetime
import email.utils
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.audit.black_box import Ask, Barred, NotServed, Unanswered, Value
from hansa.audit.boxes.query_forms import V2, Form, Rows, Unreadable
from hansa.audit.features import FeatureBox
from hansa.base.component import register
from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    from hansa.audit.population import Population

_UNKNOWN = {408, 500, 502, 504}
_LATER = {429, 503}
_LONGEST = 1 << 26  # bytes of an answer
_CHUNK = 1 << 16


@register("http")
class HttpBox(FeatureBox):
    """A platform over HTTP, with a pace, an account an agent, and answers that may be late."""

    adjustable: ClassVar[frozenset[str]] = frozenset({
        "queries_a_call", "queries_a_second", "pace_of", "burst", "timeout", "give_up", "repeats",
        "token", "certificates",
    })  # fmt: skip

    url: str = Field(description="where queries are sent; of V2 the server: https://host:port")
    protocol: Literal["rows", "v2"] = Field(
        "rows", description="rows in JSON, or the Open Inference Protocol"
    )
    model: str = Field("", description="V2: the model's name")
    positive: Value | None = Field(
        None, description="the decision that counts as yes; none: 0 and 1, or V2's threshold"
    )
    answer_key: str = Field("answers", description="rows: where the answers stand")
    answer_field: str = Field("", description="rows: where in an answer the decision stands")
    output: str = Field("", description="V2: the output tensor; empty: the first")
    threshold: float = Field(0.5, description="V2: a score of at least this is a yes")
    merged_input: str = Field(
        "", description="V2: one FP32 input of all features by this name; empty: one a feature"
    )
    queries_a_call: int = Field(1, ge=1, description="most queries in one call")
    queries_a_second: float | None = Field(
        None, gt=0, description="pace of asking; none = as fast as answers come"
    )
    pace_of: Literal["agent", "all"] = Field(
        "agent", description="whose pace that is: each agent's, or that of all agents together"
    )
    burst: int = Field(1, ge=1, description="queries that may be asked at once within the pace")
    timeout: float = Field(30.0, gt=0, description="seconds for one answer, all in all")
    give_up: float = Field(
        600.0, ge=0, description="seconds of waits after which an unserved call ends the audit"
    )
    repeats: Literal["never", "free"] = Field(
        "never",
        description="free: the platform counts a call that comes again under its key once, so a "
        "lost one is made again; never: it is spent, and its answer is missing",
    )
    token: str = Field(
        "",
        description="environment variable with the bearer token; {agent} in it stands for the "
        "agent's name in capitals, with _ for what is no letter or digit",
    )
    certificates: Path | None = Field(
        None, description="file of the authorities that are trusted; none = the system's"
    )

    @property
    def batch(self) -> int:
        """As it is set."""
        return self.queries_a_call

    @property
    def repeatable(self) -> bool:
        """As the platform promises."""
        return self.repeats == "free"

    @property
    def pace(self) -> tuple[float, int] | None:
        """As it is set."""
        return None if self.queries_a_second is None else (self.queries_a_second, self.burst)

    @property
    def one_pace(self) -> bool:
        """As it is set."""
        return self.pace_of == "all"

    @property
    def patience(self) -> float:
        """As it is set."""
        return self.give_up

    def opened(self, population: Population, agents: Sequence[str]) -> Ask:
        """Check address, tokens and features; nothing is sent.

        Raises:
            ConfigError: one of them is missing or does not fit.
        """
        if not re.match(r"https?://[^/\s]+", self.url):
            raise ConfigError("url", self.url, "is no address", "https://host/path")
        if "@" in self.url.split("//", 1)[1].partition("/")[0]:
            problem = "holds a password, which would stand in the run's folder"
            raise ConfigError("url", None, problem, "the account in an environment variable: token")
        if self.protocol == "v2" and not self.model:
            raise ConfigError("model", None, "V2 asks a model by name", "the model's name")
        if self.burst < self.queries_a_call and self.queries_a_second is not None:
            problem = f"calls of {self.queries_a_call} queries never fit within it"
            raise ConfigError("burst", self.burst, problem, "at least queries_a_call")
        if self.certificates is not None and not self.certificates.is_file():
            problem = "there is no such file"
            raise ConfigError("certificates", str(self.certificates), problem, "a PEM file")
        tokens = {agent: self._token(agent) for agent in agents} if self.token else {}
        records, form, address = self.records(population), self._form(), self._address()
        import requests

        session = requests.Session()
        session.trust_env = False  # no proxy, and no password from a file, that nobody named
        if self.certificates is not None:
            session.verify = str(self.certificates)

        def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
            headers = {"Idempotency-Key": key, "Accept": "application/json"}
            if agent in tokens:
                headers["Authorization"] = f"Bearer {tokens[agent]}"
            body = form.written(list(records.of(rows)), key)
            status, said, wait = self._post(session, address, body, headers)
            if status in _LATER:
                raise NotServed(f"the platform answers {status}", wait)
            if status in _UNKNOWN:
                raise Unanswered(f"the platform answers {status}: {_short(said)}")
            if not 200 <= status < 300:
                raise Barred(f"the platform answers {status}: {_short(said)}")
            try:
                return form.read(said, len(rows))
            except Unreadable as error:
                raise Unanswered(f"its answer cannot be read: {error}") from None

        return ask

    def _form(self) -> Form:
        if self.protocol == "v2":
            return V2(self.positive, self.output, self.threshold, self.merged_input)
        return Rows(self.positive, self.answer_key, self.answer_field)

    def _address(self) -> str:
        if self.protocol == "rows":
            return self.url
        return f"{self.url.rstrip('/')}/v2/models/{self.model}/infer"

    def _token(self, agent: str) -> str:
        name = self.token.replace("{agent}", re.sub(r"\W", "_", agent).upper())
        token = os.environ.get(name, "")
        if not token.strip():
            problem = f"the environment has no {name}, the account of agent {agent}"
            raise ConfigError("token", self.token, problem, f"export {name}=…")
        return token.strip()

    def _post(
        self, session: Any, address: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, bytes, float | None]:
        """(status, body, seconds to wait) of an answer."""
        import requests

        end = time.monotonic() + self.timeout
        try:
            with session.post(
                address, json=body, headers=headers, timeout=self.timeout,
                allow_redirects=False, stream=True,
            ) as answer:  # fmt: skip
                said = b""
                for chunk in answer.iter_content(_CHUNK):
                    said += chunk
                    if time.monotonic() > end or len(said) > _LONGEST:
                        raise Unanswered("its answer is too long, or too late")
                return answer.status_code, said, _wait(answer.headers.get("Retry-After"))
        except requests.exceptions.ConnectTimeout as error:
            raise NotServed("no connection within the time") from error
        except requests.exceptions.ConnectionError as error:
            if "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error):
                raise NotServed("the platform cannot be reached") from error
            if isinstance(error, requests.exceptions.SSLError):
                raise Barred(f"its certificate is not trusted: {_short(str(error))}") from error
            raise Unanswered(f"the connection broke: {_short(str(error))}") from error
        except requests.exceptions.RequestException as error:
            raise Unanswered(f"no answer: {_short(str(error))}") from error


def _wait(text: str | None) -> float | None:
    """Seconds of a ``Retry-After``, a number or a date; None where there is none."""
    if text is None:
        return None
    if re.fullmatch(r"\s*\d+(\.\d*)?\s*", text):
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - datetime.datetime.now(datetime.UTC)).total_seconds())


def _short(text: str | bytes) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(words.split())[:200]
