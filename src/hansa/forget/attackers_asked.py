"""What forgetting can and cannot do about those who attacked a run with what they sent."""

from __future__ import annotations

from hansa.engine.exchange.attackers import Attackers
from hansa.forget.method import Forgetting
from hansa.forget.request import Request


def of_attackers(attackers: Attackers | None, request: Request, method: Forgetting) -> list[str]:
    """What there is to know of them before a request is served, a line each.

    A client's examples are one thing, the messages that it forged another: a method that changes
    the model it finds drives the examples out, and leaves what the messages did.
    """
    if attackers is None:
        return []
    who, lines = set(attackers.nodes.tolist()), []
    named = sorted(who & set(request.clients))
    attack = attackers.attack.name
    if named and not method.without_updates:
        lines.append(
            f"{_clients(named)} attacked this run by {attack}: examples are forgotten, and what "
            "the forged updates did to the model, and to the others' updates that federaser takes "
            "the lengths of, stays; --method retrain is without these too"
        )
    if left := sorted(who - set(request.clients)):
        how = "attack again" if method.exact else "do here as they are told"
        lines.append(f"{_clients(left)} attacked this run by {attack}, stay, and {how}")
    return lines


def _clients(ids: list[int]) -> str:
    return f"client{'s' * (len(ids) > 1)} {', '.join(map(str, ids))}"
