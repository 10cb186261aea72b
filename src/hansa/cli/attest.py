"""``hansa attest``: what evidence of trusted hardware says, and whether a policy takes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.base.telling import say
from hansa.cli.answer import REFUSED, Answer, answering
from hansa.cli.options import Debug, Json, home

if TYPE_CHECKING:
    from hansa.attest.evidence import Evidence
    from hansa.attest.verdict import Verdict

app = typer.Typer(
    help="Evidence of trusted hardware: AMD SEV-SNP, Intel SGX and TDX.", no_args_is_help=True
)
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A report, a quote, or a container of evidence.", callback=home
    ),
]
Certificates = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Certificates, PEM or DER.", callback=home),
]
Collateral = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What the vendor signs beside, JSON.", callback=home),
]
_MILAN = (
    "evidence of a Milan processor can be forged by who has one: its signing seed was extracted "
    "in software (arXiv 2605.12990)"
)


@app.command("verify")
def verify(
    file: File,
    policy: Annotated[Path, typer.Option(metavar="FILE", help="What has to hold.", callback=home)],
    at: Annotated[
        str, typer.Option(metavar="TIME", help="As of when: 2026-03-01T12:00:00Z, or now.")
    ],
    certificates: Certificates = None,
    collateral: Collateral = None,
    report_data: Annotated[
        str | None, typer.Option(metavar="HEX", help="The 64 bytes that it has to be about.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Verify evidence; the exit status is 0 where it is accepted, 5 where it is refused."""
    with answering(as_json, debug) as answer:
        from hansa.attest.policy import Policy
        from hansa.attest.refusals import AttestationError
        from hansa.attest.verify import verify as judge

        wanted, moment = Policy.load(policy), _moment(at)
        expected = None if report_data is None else _report_data(report_data)
        try:
            evidence = _evidence(file, certificates, collateral)
        except AttestationError as error:
            answer.data = _unreadable(error)
            answer.line("verdict   refused")
            answer.line(f"problem   {error.name}: {error}")
        else:
            verdict = judge(evidence, wanted, at=moment, report_data=expected)
            answer.data = {
                **verdict.to_json(), "at": moment.isoformat(), "policy": wanted.digest().hex(),
                "report_data_compared": expected is not None,
            }  # fmt: skip
            _show(answer, verdict, expected is not None)
        status = 0 if answer.data["verdict"] == "accepted" else REFUSED
    if status:
        raise typer.Exit(status)


@app.command("explain")
def explain(
    file: File,
    certificates: Certificates = None,
    collateral: Collateral = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what evidence says, field by field. Nothing of it is verified."""
    with answering(as_json, debug) as answer:
        from hansa.attest.explanation import explain as explained
        from hansa.report.grid import Grid

        answer.data = told = explained(_evidence(file, certificates, collateral))
        rows = [[name, _text(value)] for name, value in told["report"].items()]
        answer.table(Grid(f"{told['platform']}: what it says, unverified", ["", ""], rows, words=2))
        for title, part in (("Certificates", "certificates"), ("Signed lists", "lists")):
            if told[part]:
                names = list(dict.fromkeys(name for row in told[part] for name in row))
                rows = [[_text(row.get(name, "")) for name in names] for row in told[part]]
                answer.table(Grid(title, names, rows, words=len(names)))
        answer.line("Nothing was verified: hansa attest verify FILE does that.")


@app.command("policy")
def show_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy's file.", callback=home)],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a policy, and print it with its hash: what two ends of a channel compare."""
    with answering(as_json, debug) as answer:
        from hansa.attest.policy import Policy
        from hansa.base.yamltext import dump_yaml

        policy = Policy.load(file)
        answer.data = {"policy": policy.dump(), "sha256": policy.digest().hex()}
        answer.line(dump_yaml(policy.dump(), sort_keys=False).rstrip())
        answer.line(f"# sha256 {policy.digest().hex()}")
        if "Milan" in policy.products:
            say(f"remark: {_MILAN}")


@app.command("root")
def root(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", callback=home)],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make the throw-away root of a simulation that several sites share. It protects nothing."""
    with answering(as_json, debug) as answer:
        from hansa.attest.simulation import SimulatedRoot, check_allowed

        check_allowed("root")
        made = SimulatedRoot.generate()
        made.save(file)
        answer.data = {"file": str(file), "root": made.public.hex(), "is_hardware": False}
        answer.line(f"wrote  {file}  (for tests: attester: {{name: simulated, root: {file}}})")


@app.command("measure")
def measure(as_json: Json = False, debug: Debug = False) -> None:
    """Print the hash of the installed package: what members of a group have to have alike."""
    with answering(as_json, debug) as answer:
        from hansa.attest.code import code_digest

        answer.data = {"sha384": code_digest().hex()}
        answer.line(f"sha384 {code_digest().hex()}")


@app.command("memory")
def memory(
    seconds: Annotated[float, typer.Option(metavar="S", help="What the work takes outside.")],
    working_set: Annotated[str, typer.Option(metavar="SIZE", help="In use, such as 400MB.")],
    touched: Annotated[str, typer.Option(metavar="SIZE", help="Read and written in all.")],
    calls: Annotated[int, typer.Option(metavar="N", help="System calls.")] = 0,
    epc: Annotated[str, typer.Option(metavar="SIZE", help="Protected memory.")] = "93MiB",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what work would take in an enclave with little memory: modelled, not measured."""
    with answering(as_json, debug) as answer:
        from dataclasses import asdict

        from hansa.attest.enclave_memory import EnclaveMemory, enclave_cost
        from hansa.base.byte_size import byte_size

        for name, value in (("seconds", seconds), ("calls", calls)):
            if value < 0:
                raise ConfigError(name, value, "is less than nothing", "0 or more")
        machine = EnclaveMemory(epc=byte_size(epc, "epc"))
        used, swept = byte_size(working_set, "working_set"), byte_size(touched, "touched")
        cost = enclave_cost(machine, seconds=seconds, working_set=used, touched=swept, calls=calls)
        answer.data = {**asdict(cost), "machine": asdict(machine)}
        answer.line(str(cost))


def _evidence(file: Path, certificates: Path | None, collateral: Path | None) -> Evidence:
    from hansa.attest.evidence_files import read_file, recognise

    return recognise(
        read_file(file, "FILE", 1 << 20),
        read_file(certificates, "certificates") if certificates else b"",
        read_file(collateral, "collateral") if collateral else b"",
    )


def _moment(text: str) -> datetime:
    if text == "now":
        return datetime.now(UTC)
    fix = "such as 2026-03-01T12:00:00Z, or now"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("at", text, "is no time", fix) from None
    if moment.tzinfo is None:
        raise ConfigError("at", text, "has no time zone", fix)
    return moment


def _report_data(text: str) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise ConfigError("report_data", text, "is not made of hex digits", "128 digits") from None
    if len(data) != 64:
        raise ConfigError("report_data", text, f"has {len(data)} bytes", "64 bytes, 128 digits")
    return data


def _unreadable(error: Any) -> dict[str, Any]:
    return {
        "verdict": "refused", "platform": "", "product": "",
        "problems": [{"name": error.name, "text": str(error)}],
    }  # fmt: skip


def _show(answer: Answer, verdict: Verdict, compared: bool) -> None:
    answer.line(f"verdict   {verdict.verdict}")
    for name, value in (
        ("platform", verdict.platform),
        ("product", verdict.product),
        ("measured", verdict.measurement),
        ("status", verdict.status),
        ("chip", verdict.chip_id),
        ("until", verdict.until.isoformat() if verdict.until else ""),
    ):
        if value:
            answer.line(f"{name:9} {value}")
    if verdict.tcb:
        answer.line(f"versions  {', '.join(f'{k} {v}' for k, v in verdict.tcb.items())}")
    for each in verdict.advisories:
        answer.line(f"advisory  {each}")
    for name, text in verdict.problems:
        answer.line(f"problem   {name}: {text}")
    if not verdict.accepted:
        return
    if not compared:
        say("remark: its report data were not compared (--report-data): whoever has seen it can "
            "show it again")  # fmt: skip
    if verdict.status == "Unchecked":
        say("remark: without Intel's lists nobody knows how old or whether revoked the platform is")
    if verdict.product == "Milan":
        say(f"remark: {_MILAN}")


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
