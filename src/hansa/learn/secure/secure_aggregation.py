"""Secure aggregation: D-PSGD in which nobody sees a neighbour's model, only their weighted sum.

Nodes that are heard by the same receiver share secrets, from which both ends of a pair make the
same pad for that receiver and round; one adds it to its weighted, fixed-point model, the other
subtracts it. Each message alone is uniformly random; their sum modulo 2^32 is exactly that of the
models (see ``masking.py`` and ``key_agreement.py``). Weights are applied before masking, so a node
sends a different vector to each receiver, of the size of a float32 model.

The protocol is hansa's own, built from the pairwise masks of Bonawitz et al. (2017). It is
*related* to CESAR (Biswas et al., 2024, arXiv 2405.07708), which also masks pairwise over two hops
and works with sparsification, but it is not CESAR. With ``share`` below 1 all who send to a
receiver use positions that follow from the receiver and the round, and the sum is put over the
receiver's own numbers there.

**What is protected, from whom.** Receivers are honest but curious: they follow the protocol and
look at what they get. One learns the weighted sum of its neighbours' models and nothing else, as
long as it does not collude with all but one of those neighbours.

**Limits.** The sum itself is not protected: where a receiver's neighbours hardly move while one
leaves or joins, the difference of two sums tells much. Keys are not authenticated: a receiver that
forges those it relays reads everything. Under ``on_missing: recover`` one that lies about who is
missing reads the "missing" model, so the default is to skip. A sender can still poison a sum, and
hides behind the masks while it does. Keys travel against the graph's edges too, so messages must
get through both ways. Keys and what is revealed are waited for: only masked vectors may get lost
(``faults`` of a run file), and what a node makes of that is its setting here. A round that is done
again after a resume, but with other settings, meets its old pads: whoever saw both messages sees
their difference. Keys are drawn at random where nodes are apart, and follow from the run's seed
where one process holds all nodes and can see everything anyhow. With ``keys: seeded`` they always
do, unless a holder has a secret, and whoever has the run file can compute all masks. Pads cancel
exactly, so the models are the same whatever the keys; checkpoints hold them. A block holds all the
messages that its nodes send, one a receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, RunError
from hansa.base.lazy import torch
from hansa.base.threads import lanes
from hansa.codec import Packets, Raw
from hansa.codec.seeded import seeded_positions
from hansa.engine import Algorithm, Block, Inbox, Network, Script, Send, WeightRule
from hansa.learn.secure import shares
from hansa.learn.secure.key_agreement import KeySource, agree, own_keys
from hansa.learn.secure.masking import WORD, add_pads, add_sum_, pad_seed, quantize, total
from hansa.learn.secure.unmasking import Revealed, reveal
from hansa.topology import Graph, MixingMatrix

_AHEAD = 1000  # rounds of a changing network that are looked at before a run begins


@register("secure_dpsgd")
class SecureDPSGD(Algorithm):
    """D-PSGD by secure aggregation: each node learns only its neighbours' weighted sum."""

    unattackable: ClassVar[str] = "sends masked bytes, not rows of numbers"
    lacks: ClassVar[Mapping[str, str]] = {
        **Algorithm.lacks,
        "aggregator": "shows a node its neighbours' sum alone, in which no row can be told apart",
        "codec": "sends integers whose masks cancel to the last bit, so that none may be rounded",
    }
    tolerates_loss: ClassVar[bool] = True
    crash_breaks: ClassVar[str] = (
        "agrees on keys with everybody whom a neighbour hears, and one that is gone in the middle "
        "of that, or comes back with other keys, leaves masks that nobody can take away"
    )
    weights: WeightRule = Field(
        "metropolis_hastings", description="how much a node trusts each neighbour"
    )
    fraction_bits: int = Field(
        20,
        ge=1,
        le=30,
        description="binary digits after the point, 1 to 30: more are finer, fewer reach further",
    )
    share: float = Field(
        1.0, gt=0, le=1, description="part of the model that is sent, the same to one receiver"
    )
    keys: KeySource = Field(
        "auto",
        description="secret keys: random = from the operating system; seeded = from the holder's "
        "secret or the run's seed; auto = seeded where one process holds all nodes, else random",
    )
    allow_exposed: bool = Field(
        False, description="let a node that hears only one other see that one's model"
    )
    on_missing: Literal["skip", "recover"] = Field(
        "skip",
        description="when a neighbour vanishes: keep one's model this round, or have the others "
        "reveal the pads that they share with it",
    )

    def check(self, network: Network) -> None:
        graph = network.graph(0)
        network.mixing(graph, self.weights)
        for t in range(1 if self.allow_exposed or not network.changing else _AHEAD):
            exposed = np.flatnonzero(network.graph(t).in_degrees == 1)
            if len(exposed) and not self.allow_exposed:
                raise ConfigError(
                    "allow_exposed",
                    False,
                    f"node {exposed[0]} hears only one other"
                    + f" in round {t + 1}" * network.changing
                    + " and would see its model"
                    + (f", as would {len(exposed) - 1} more" * (len(exposed) > 1)),
                    "a topology in which every node hears at least 2 (without absences, or more "
                    "neighbours), or allow_exposed: true",
                )

    def unprotected(self, way: str) -> str:
        if way == "distributed":
            return ""
        return super().unprotected(way)

    def start(self, block: Block) -> None:
        own_keys(block, self.keys)
        graph = block.graph(0)
        shares.begin(block, graph)
        weights = block.mixing(graph, self.weights)
        for receiver in np.flatnonzero(graph.in_degrees).tolist():
            if noise := self._shares(block, weights, receiver):
                noise.check()

    def round(self, block: Block, t: int) -> Script:
        self.local(block, t)
        graph = block.graph(t)
        self._refuse_exposed(graph, t)
        shared = yield from agree(block, graph)
        weights = block.mixing(graph, self.weights)
        masked = self.masked(block, graph, weights, shared, t)
        inbox = yield Send(masked, graph, Raw(), kind="masked", each=True, on_missing="skip")
        lost = [inbox.missing.of(k) for k in range(len(block))]
        revealed = None
        if self.on_missing == "recover":
            least = 1 if self.allow_exposed else 2
            spare = shares.spare(block)
            revealed = yield from reveal(block, graph, shared, lost, least, t, spare)
        self._add_sums(block, weights, inbox, lost, revealed, t)

    def masked(
        self,
        block: Block,
        graph: Graph,
        weights: MixingMatrix,
        shared: list[dict[int, bytes]],
        t: int,
    ) -> Packets:
        """The vectors of round t, by sender and then receiver."""
        rows = shares.said(block, block.rows.detach().cpu().numpy())
        indptr, receivers = graph.transpose().rows(block.ids)
        shares.count(block, np.diff(indptr))
        noises = {int(r): self._shares(block, weights, int(r)) for r in np.unique(receivers)}
        positions = {int(r): self.positions(block, int(r), t) for r in np.unique(receivers)}

        def of_node(k: int) -> list[bytes]:
            sender, packets = int(block.ids[k]), []
            for r in receivers[indptr[k] : indptr[k + 1]].tolist():
                chosen = positions[r]
                numbers = rows[k] if chosen is None else rows[k, chosen]
                others, mixing_weights = _row(weights, r)
                words, bad = quantize(
                    numbers,
                    float(mixing_weights[others == sender][0]),
                    self.fraction_bits,
                    len(others) - (noises[r] is None),  # noise has room of its own
                )
                if bad >= 0:
                    raise self._overflow(float(numbers[bad]), sender, len(others) - 1, t)
                if (noise := noises[r]) is not None:
                    noise.check()  # a graph may change
                    noise.add(words, block.streams.own.numpy(f"privacy {r}", sender, t))
                peers = [int(j) for j in graph.row(r) if j != sender]
                seeds = {j: pad_seed(shared[k][j], r, t) for j in peers}
                plus = [seed for j, seed in seeds.items() if j > sender]
                add_pads(words, plus, [seed for j, seed in seeds.items() if j < sender])
                packets.append(words.tobytes())
            return packets

        threads = min(lanes(), len(block))
        if threads < 2:
            nodes = [of_node(k) for k in range(len(block))]
        else:
            with ThreadPoolExecutor(threads) as pool:
                nodes = list(pool.map(of_node, range(len(block))))
        return Packets(tuple(packet for packets in nodes for packet in packets))

    def positions(self, block: Block, receiver: int, t: int) -> np.ndarray | None:
        """The numbers that a receiver is sent in round t, ascending; None for all."""
        if self.share >= 1:
            return None
        size = block.rows.shape[1]
        seed = block.streams.integer("secure_dpsgd share", receiver, t)
        drawn = seeded_positions(seed, self.share, size)
        return drawn if len(drawn) else np.array([seed % size])

    def _add_sums(
        self,
        block: Block,
        weights: MixingMatrix,
        inbox: Inbox,
        lost: list[np.ndarray],
        revealed: list[Revealed | None] | None,
        t: int,
    ) -> None:
        """x_r <- (w_rr x_r + what arrived) / (the weights of what arrived), in place."""
        numbers = block.rows.detach().cpu().numpy()  # the rows themselves unless on a device
        skipped, recovered = np.zeros(len(block)), np.zeros(len(block))
        for k, node in enumerate(block.ids.tolist()):
            senders, packets = inbox.messages(k)
            assert isinstance(packets, Packets)
            if not len(senders) + len(lost[k]):
                continue
            pads = None if revealed is None else revealed[k]
            if len(lost[k]) and pads is None:
                skipped[k] = 1
                continue
            chosen = self.positions(block, node, t)
            size = numbers.shape[1] if chosen is None else len(chosen)
            words = total(packets.packets, size)
            if pads is not None:
                add_pads(words, pads.plus, pads.minus)
            columns, mixing_weights = _row(weights, node)
            own = float(mixing_weights[columns == node][0])
            present = (
                float(mixing_weights[~np.isin(columns, lost[k])].sum()) if len(lost[k]) else 1.0
            )
            step = 2.0**-self.fraction_bits / present
            mine = numbers[k] if chosen is None else numbers[k, chosen]
            shares.hear(block, k, chosen, words, step / max(1 - own / present, 1e-12))
            add_sum_(mine, own / present, words, step)
            if chosen is not None:
                numbers[k, chosen] = mine
            recovered[k] = len(lost[k]) > 0
        if block.rows.device.type != "cpu":
            block.rows.copy_(torch.from_numpy(numbers))
        block.report["aggregations_skipped"] = skipped
        if self.on_missing == "recover":
            block.report["aggregations_recovered"] = recovered

    def _shares(self, block: Block, weights: MixingMatrix, receiver: int) -> shares.Shares | None:
        """The shares of noise in what a receiver is sent; None: there are none."""
        others, mixing_weights = _row(weights, receiver)
        return shares.shares_of(block, mixing_weights[others != receiver], self.fraction_bits)

    def _refuse_exposed(self, graph: Graph, t: int) -> None:
        exposed = np.flatnonzero(graph.in_degrees == 1)
        if len(exposed) and not self.allow_exposed:
            raise RunError(
                "hears only one other and would see its model; a topology in which every node "
                "always hears at least 2 (or none), or algorithm.allow_exposed: true",
                node=int(exposed[0]),
                round=t + 1,
            )

    def _overflow(self, number: float, node: int, terms: int, t: int) -> RunError:
        reach = 2.0 ** (WORD - 1 - self.fraction_bits) / terms
        return RunError(
            f"{number:.4g} times its weight does not fit: with algorithm.fraction_bits = "
            f"{self.fraction_bits} a sum of {terms} terms holds values below {reach:.4g} each; "
            "set fewer fraction_bits (or see whether training diverges)",
            node=node,
            round=t + 1,
            phase="masking",
        )


def _row(weights: MixingMatrix, receiver: int) -> tuple[np.ndarray, np.ndarray]:
    """(nodes, the receiver itself among them; the weights that it gives them)."""
    span = slice(weights.indptr[receiver], weights.indptr[receiver + 1])
    return weights.indices[span], weights.values[span]
