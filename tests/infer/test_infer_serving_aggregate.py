"""The aggregate over real sockets: quorum, deadlines, statuses, early decisions, the breaker."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from hansa.infer.serving.serve_model import aggregate_of

from .serving_stubs import (
    Reply,
    Served,
    Stub,
    file_of,
    outputs_of,
    question,
    replies,
    rows_reply,
    says,
    serving,
)

A, B = says(0.8, 0.1, 0.1), says(0.05, 0.9, 0.05)
MILD = says(0.5, 0.3, 0.2)


def status_of(response: Any) -> dict[str, str]:
    """What came of each member."""
    parameters = response.json()["parameters"]
    return {
        name.removeprefix("member."): value
        for name, value in parameters.items()
        if name.startswith("member.") and not name.endswith(".ms")
    }


async def never(request: dict[str, Any]) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


def test_members_that_agree_are_answered_and_certified() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer(question(id="q1"))
        assert response.status_code == 200
        said = response.json()
        assert (said["id"], said["model_name"]) == ("q1", "hansa")
        data = outputs_of(response)
        assert data["class"] == ["a"]
        assert data["certified"] == [True]
        assert data["abstained"] == [False]
        assert data["f_star"][0] >= 1
        assert data["probabilities"] == pytest.approx([0.8, 0.1, 0.1])
        assert set(status_of(response).values()) == {"ok"}
        assert stubs[0].asked == [question(id="q1")]
        await served.infer(question(outputs=[{"name": "class"}]))
        assert stubs[0].asked[1] == question()  # which outputs is not the members' to know

    serving([A] * 5, test, early=False)


def test_the_liars_are_outvoted() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        data = outputs_of(await served.infer(question(3)))
        assert data["class"] == ["a"] * 3
        # two rows in five are beyond what f = 1 certifies here, and it is not said to be
        assert data["certified"] == [False] * 3

    serving([MILD, MILD, MILD, B, B], test, f=2, early=False)


def test_one_dead_one_slow_one_lying_one_garbage() -> None:
    """Four of seven members give valid rows, one of them a liar's: answered, each one's status."""

    async def test(served: Served, stubs: list[Stub]) -> None:
        await stubs[0].kill()
        for _ in range(3):
            response = await served.infer(question(2))
            assert response.status_code == 200
            data = outputs_of(response)
            assert data["class"] == ["a", "a"]
            statuses = status_of(response)
            assert statuses["m0"].startswith("unreachable")
            assert statuses["m1"] == "timeout"
            assert statuses["m3"].startswith("invalid: 2 of 2 rows")
            assert [statuses[f"m{k}"] for k in (2, 4, 5, 6)] == ["ok"] * 4
            assert response.json()["parameters"]["missing"] == 3
        figures = (await served.http.get("/metrics")).text
        assert 'hansa_invalid_rows_total{member="m3"} 6' in figures
        assert 'hansa_member_calls_total{member="m1",outcome="timeout"} 3' in figures
        assert 'hansa_requests_total{status="200"} 3' in figures

    garbage = replies(rows_reply([[0.5, 0.7, -0.2]] * 2))
    serving(
        [A, never, B, garbage, A, A, A], test, each={1: {"timeout_ms": 50}}, breaker={"failures": 9}
    )


def test_an_answer_that_nothing_can_change_does_not_wait() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer()
        assert response.status_code == 200
        parameters = response.json()["parameters"]
        assert parameters["early"] is True
        assert parameters["missing"] == 2
        assert outputs_of(response)["certified"] == [True]
        assert [status_of(response)[m] for m in ("m5", "m6")] == ["not needed"] * 2
        for slow in stubs[5:]:
            await slow.left.wait()  # their calls are cancelled, and they notice
        assert served.model.endpoints[5].breaker.state == "closed"
        served.model.figures()
        assert (
            served.model.counted.value(
                "hansa_answers_total", certified="true", early="true", abstained="false"
            )
            == 1
        )

    sure = says(1, 0, 0)
    serving([sure] * 5 + [never] * 2, test)


def test_early_and_late_answers_are_one() -> None:
    """Whatever the order in which rows come, an early answer is that of all."""
    rows = [[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1]]

    async def test(served: Served, stubs: list[Stub]) -> None:
        for first in range(5):
            gates = [asyncio.Event() for _ in stubs]

            def waits(k: int, gates: list[asyncio.Event] = gates) -> Any:
                async def answer(request: dict[str, Any]) -> Reply:
                    await gates[k].wait()
                    return rows_reply([rows[k]])

                return answer

            for k, stub in enumerate(stubs):
                stub.behaviour = waits(k)
            asked = asyncio.ensure_future(served.infer())
            for k in range(5):
                gates[(first + k) % 5].set()
            response = await asked
            assert outputs_of(response)["class"] == ["a"]

    serving([A] * 5, test)


def test_a_quorum_is_needed_and_an_error_says_who_failed() -> None:
    """One 500 and one 404 of three are no plain 200 (kserve issue 2484)."""

    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer()
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        text = response.json()["error"]
        assert "1 of 3 members gave valid rows, and 3 are needed" in text
        assert "m1 http 500" in text
        assert "m2 http 404" in text

    gone = replies((404, {"error": "no such model"}))
    serving([A, replies((500, {"error": "boom"})), gone], test)


def test_a_status_is_told_of_each_member_of_a_200() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer()
        assert response.status_code == 200
        assert status_of(response) == {
            "m0": "ok", "m1": "http 500", "m2": "http 404", "m3": "ok", "m4": "ok"
        }  # fmt: skip

    serving([A, replies((500, {})), replies((404, {})), A, A], test, early=False)


def test_the_deadline_ends_a_request() -> None:
    """A member that sleeps holds no answer beyond the deadline (triton pull request 2789)."""

    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer(x_request_deadline_ms="100")
        assert response.status_code == 504
        assert "when 100 ms had passed" in response.json()["error"]
        assert "m0 timeout" in response.json()["error"]
        for stub in stubs:
            await stub.left.wait()
            assert float(stub.headers[0]["x-request-deadline-ms"]) <= 100
        # Who asks in a hurry says nothing of the members.
        assert {e.breaker.state for e in served.model.endpoints} == {"closed"}

    serving([never] * 3, test, breaker={"failures": 1})


def test_at_the_deadline_a_quorum_is_answered() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        slow = asyncio.ensure_future(served.infer(x_request_deadline_ms="60000"))
        await stubs[3].left.wait()
        response = await slow
        assert response.status_code == 200
        assert status_of(response)["m3"] == "timeout"
        assert outputs_of(response)["class"] == ["a"]

    serving([MILD, MILD, MILD, never], test, each={3: {"timeout_ms": 200}}, early=False)


def test_a_deadline_that_is_none_is_refused() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        assert (await served.infer(x_request_deadline_ms="soon")).status_code == 400
        assert (await served.infer(x_request_deadline_ms="nan")).status_code == 400
        assert (await served.infer(x_request_deadline_ms="0")).status_code == 504
        assert not stubs[0].asked

    serving([A] * 3, test)


def test_the_breaker_leaves_a_dead_member_alone_and_takes_it_back() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        clock = Clock()
        for endpoint in served.model.endpoints:
            endpoint.breaker._clock = clock
        await stubs[0].kill()
        for _ in range(2):
            assert status_of(await served.infer())["m0"].startswith("unreachable")
        assert status_of(await served.infer())["m0"] == "breaker open"
        assert 'hansa_breaker_state{member="m0"} 2' in (await served.http.get("/metrics")).text
        await stubs[0].start()
        assert status_of(await served.infer())["m0"] == "breaker open"
        clock.now += 3
        assert 'hansa_breaker_state{member="m0"} 1' in (await served.http.get("/metrics")).text
        assert status_of(await served.infer())["m0"] == "ok"
        assert served.model.endpoints[0].breaker.state == "closed"

    serving([A] * 4, test, early=False, breaker={"failures": 2, "wait_ms": 3000})


def test_who_is_left_alone_is_asked_where_all_others_are_too_few() -> None:
    """Members that were down are back, others are down now, and no breaker has had its time."""

    async def test(served: Served, stubs: list[Stub]) -> None:
        for down, back in ((0, 1), (1, 0), (2, 1)):
            await stubs[down].kill()
            for _ in range(3):
                response = await served.infer()
                assert response.status_code == 200, response.text
            await stubs[down].start()
            await stubs[back].kill()
            await stubs[back].start()
        states = {endpoint.breaker.state for endpoint in served.model.endpoints}
        assert "open" in states
        for stub in stubs[:2]:
            await stub.kill()
        response = await served.infer()
        assert response.status_code == 503
        for stub in stubs[:2]:
            await stub.start()
        response = await served.infer()
        assert response.status_code == 200
        assert set(status_of(response).values()) <= {"ok", "breaker open"}

    serving([A] * 4, test, early=False, breaker={"failures": 1, "wait_ms": 3_600_000})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bad_request_is_the_asker_s_fault() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        for _ in range(3):
            response = await served.infer()
            assert response.status_code == 400
            assert "3 members refuse the request, such as: shape [1, 1]" in response.text
        assert {e.breaker.state for e in served.model.endpoints} == {"closed"}

    refuse = replies((400, {"error": "shape [1, 1] is not mine"}))
    serving([refuse] * 3, test, breaker={"failures": 1})


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (rows_reply([[0.5, 0.5]]), "invalid: shape [1, 2]"),
        (rows_reply([[0.5, 0.5, 0.5]]), "invalid: 1 of 1 rows"),
        (rows_reply([[float("nan"), 0.5, 0.5]]), "invalid: 1 of 1 rows"),
        (rows_reply([[1.5, -0.5, 0]]), "invalid: 1 of 1 rows"),
        ((200, {"outputs": "x"}), "invalid: there are no outputs"),
        ((200, []), "invalid: there are no outputs"),
        ((200, {"outputs": [{"name": "y", "shape": [1, 3], "data": ["a", "b", "c"]}]}), "invalid"),
        ((200, {"outputs": [{"name": "y", "shape": [1, 3], "data": [[1], [0, 0]]}]}), "invalid"),
        ((200, {"outputs": [{"name": "y"}, {"name": "z"}]}), "invalid: there is no output"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1,", "invalid: the body is no JSON"),
        (b"what is this\r\n\r\n", "no response"),
        ((302, {}), "http 302"),
        ((429, {}), "http 429"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_row_is_never_taken_for_one(reply: Reply, said: str) -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer()
        assert response.status_code == 200
        assert status_of(response)["m0"].startswith(said)
        assert outputs_of(response)["class"] == ["a"]

    serving([replies(reply), A, A, A], test, early=False)


def test_rows_are_valid_one_by_one() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer(question(2))
        assert response.status_code == 200
        assert outputs_of(response)["class"] == ["a", "a"]
        assert status_of(response)["m0"] == "invalid: 1 of 2 rows are no distributions"

    half = replies(rows_reply([[0.1, 0.1, 0.1], [0, 1, 0]]))
    serving([half, A, A, A], test, early=False)


def test_it_abstains_below_the_margin_or_where_nothing_is_certified() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        data = outputs_of(await served.infer())
        assert data["class"] == [""]
        assert data["abstained"] == [True]

    serving([MILD] * 3, test, margin=0.3)
    serving([MILD, MILD, B], test, certified_only=True)


def test_logits_are_taken_where_they_are_said_to_be_such() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        data = outputs_of(await served.infer())
        assert data["class"] == ["b"]

    logits = replies(rows_reply([[-4, 9, 2]], "out"))
    each = {k: {"gives": "logits"} for k in range(3)}
    serving([logits] * 3, test, each=each)


def test_it_is_ready_with_a_quorum_of_ready_members() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        for path in ("/v2/health/ready", "/v2/models/hansa/ready"):
            assert (await served.http.get(path)).status_code == 200
        stubs[0].ready = False
        served.model._ready = None  # what was said a moment ago is believed for a second
        assert (await served.http.get("/v2/health/ready")).status_code == 200
        await stubs[1].kill()
        served.model._ready = None
        response = await served.http.get("/v2/health/ready")
        assert (response.status_code, response.json()) == (503, {"ready": False})
        assert (await served.http.get("/v2/health/live")).status_code == 200
        assert "hansa_ready 0" in (await served.http.get("/metrics")).text

    serving([A] * 4, test)


def test_too_large_a_batch_is_refused() -> None:
    async def test(served: Served, stubs: list[Stub]) -> None:
        assert (await served.infer(question(5))).status_code == 413
        assert not stubs[0].asked

    serving([A] * 3, test, batch=4)


def test_a_token_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMBER_TOKEN", "very-secret")

    async def test(served: Served, stubs: list[Stub]) -> None:
        response = await served.infer()
        assert stubs[1].headers[0]["authorization"] == "bearer very-secret"
        assert "authorization" not in stubs[0].headers[0]
        for text in (response.text, (await served.http.get("/metrics")).text):
            assert "very-secret" not in text

    serving([A] * 3, test, each={1: {"token": "MEMBER_TOKEN"}}, early=False)


class Foreign(BaseHTTPRequestHandler):
    """A server of another maker: HTTP/1.0, an output of its own name, nested data."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        batch = request["inputs"][0]["shape"][0]
        tensor = {
            "name": "predict_proba", "shape": [batch, 3], "datatype": "FP32",
            "data": [[0.7, 0.2, 0.1]] * batch,
        }  # fmt: skip
        body = json.dumps({"model_name": "iris", "outputs": [tensor]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


def test_members_need_not_be_ours() -> None:
    server = HTTPServer(("127.0.0.1", 0), Foreign)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    async def main() -> None:
        ours = [await Stub(A).start() for _ in range(3)]
        file = file_of(ours, early=False)
        foreign = {"url": f"http://127.0.0.1:{server.server_port}", "model": "iris"}
        endpoints = [*(one.model_dump(mode="json") for one in file.endpoints), foreign]
        served = Served(aggregate_of(type(file).parse({**file.dump(), "endpoints": endpoints})))
        for _ in range(2):
            response = await served.infer(question(2))
            assert response.status_code == 200
            assert status_of(response)["m3"] == "ok"
            assert outputs_of(response)["class"] == ["a", "a"]
        await served.model.close()
        for stub in ours:
            await stub.kill()

    try:
        asyncio.run(main())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_requests_side_by_side_keep_their_answers() -> None:
    """Members come and go under many requests: each answer is its own question's, or an error."""

    async def echo(request: dict[str, Any]) -> Reply:
        await asyncio.sleep(0)
        rows = []
        for number in request["inputs"][0]["data"]:
            row = [0.05, 0.05, 0.05]
            row[int(number)] = 0.9
            rows.append(row)
        return rows_reply(rows)

    async def test(served: Served, stubs: list[Stub]) -> None:
        wrong = statuses = 0

        async def ask(k: int) -> None:
            nonlocal wrong, statuses
            numbers = [k % 3, (k + 1) % 3]
            tensor = {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": numbers}
            response = await served.infer({"id": str(k), "inputs": [tensor]})
            assert response.json()["id"] == str(k)
            statuses += response.status_code == 200
            wrong += outputs_of(response)["class"] != ["abc"[n] for n in numbers]

        for round_ in range(6):
            dead = stubs[round_ % 2]  # one of five at a time
            await dead.kill()
            await asyncio.gather(*(ask(k) for k in range(20 * round_, 20 * round_ + 20)))
            await dead.start()
        assert (statuses, wrong) == (120, 0)

    serving([echo] * 5, test, breaker={"failures": 3, "wait_ms": 1})
