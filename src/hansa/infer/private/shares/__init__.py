"""Mode ``shares``: the client decrypts only uniform numbers, and its steps run in garbled circuits.

What happens in a round: the client encrypts its share of every value, the server adds its own share
as a plaintext, applies the linear blocks and adds a mask R, uniform modulo q, to every coefficient
that it sends. What the client decrypts is then uniform, so that neither accumulators nor noise tell
it anything (a query hidden in the noise of a ciphertext comes back under R as well). A garbled
circuit (half gates: Zahur, Rosulek, Evans, 2015) takes the client's number and the server's mask,
and hands the client x - s modulo t with a fresh uniform s of the server, where x is what the
program's steps make of the accumulator. The client's bits reach the circuit through oblivious
transfer that holds against a lying receiver (:mod:`extension`).

Why it holds against a lying client, on paper:

- *Ciphertexts.* The mask half that comes back is sum w * a + a_pk * u + e1 with u and e1 of the
  server: an RLWE sample under a_pk, which the server chose, whatever the client uploaded. The body
  is uniform, because R is.
- *Transfer.* A receiver that sends inconsistent columns passes the check with probability 2^-c
  while it learns c bits of the sender's secret, and is shut out otherwise (Roy, 2022).
- *Circuits.* The evaluator of a garbled circuit learns one output whatever it does (Lindell,
  Pinkas, 2009, for an honest garbler); it may only choose its input bits. The server garbles and is
  trusted to do so honestly: it is semi-honest in this mode as in every other.
- *What remains.* A client may add any number to any accumulator or any share. Its query is then one
  to a network with altered activations, and it sees of that what it sees of any query: the class
  (``reveals: class``), or the logits. Logits are linear in the last layer's inputs, so that
  ``reveals: logits`` gives the last layer away to a client that alters its shares. Labels of chosen
  queries can be used to train or to extract a model, here as behind any interface that answers.

No dealer is used: all correlated randomness is made by the two parties themselves. Research grade,
unaudited; Python's integers and numpy are not constant-time.
"""
