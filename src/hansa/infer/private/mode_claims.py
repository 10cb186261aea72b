"""What each mode of private inference hides from whom, as pages say it."""

from __future__ import annotations

from hansa.report.grid import Grid

CLAIMS: dict[str, tuple[str, str, str]] = {
    "shuffle": (
        "the client's data from the server; from a client that follows the protocol what "
        "ciphertexts would tell beside the numbers (masks and errors)",
        "weights from a client that chooses what it uploads: one input recovers a convolution, "
        "d + 1 a matrix (Kim and Lee, 2026, arXiv 2609.12911); sessions are aligned (Li et al., "
        "2026, arXiv 2605.04901); a query hidden in noise is read in part, over many in whole. "
        "Obfuscation only",
        "semi-honest client, semi-honest server",
    ),
    "budget": (
        "as shuffle, and no layer tells more equations to a client than a share of its unknown "
        "weights",
        "the share of columns that the budget lets pass, from each client: clients that collude "
        "add up theirs. Convolutions tell more in one query than any budget",
        "semi-honest server; clients that do not collude",
    ),
    "shares": (
        "the client's data from the server; from the client, whatever it sends, all numbers "
        "between the layers: it decrypts uniform ones, and activations run in garbled circuits",
        "shapes, activations and scales; the class, also of activations that a lying client has "
        "changed, from which very many queries make a model; with reveals: logits the last layer",
        "any client, semi-honest server; no dealer",
    ),
}
"""By mode: what it hides, what it does not, and of whom that is said."""


def claims_grid(modes: tuple[str, ...] = tuple(CLAIMS)) -> Grid:
    """The claims as a table."""
    rows = [[mode, *CLAIMS[mode]] for mode in modes if mode in CLAIMS]
    return Grid("", ["mode", "hides", "does not hide", "holds against"], rows, words=4)
