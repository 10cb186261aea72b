"""Whole steps over several polynomials at once, so that threads meet the interpreter rarely.

Each stands twice, on float64 (``real_kernels``) and on words (``residue_kernels``); tables are
tuples of what the transforms take behind the polynomials.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hansa.infer.private.rlwe import ntt_kernels, real_kernels, residue_kernels
from hansa.infer.private.rlwe.draw_kernels import confine, gaussian, spread_around

real_forward, real_inverse = real_kernels.forward, real_kernels.inverse
real_product, real_lift = real_kernels.product_add, real_kernels.lift
real_small, real_wide = real_kernels.lift_small, real_kernels.lift_wide
real_scale = real_kernels.scale
word_forward, word_inverse = ntt_kernels.forward, ntt_kernels.inverse
word_product, word_lift = residue_kernels.product_add, residue_kernels.lift
word_wide, word_scale = residue_kernels.lift_wide, residue_kernels.scale
phases = residue_kernels.phases


@njit(cache=True, nogil=True)
def hide_real(  # type: ignore[no-untyped-def]  # pragma: no cover
    mixers, words, thresholds, bits, key_a, key_b, a, b, out_a, out_b, constants, there, back
):
    """See ``ciphers.rerandomise``: mixers int8 [k, N], words [k, 4, N]; errors and flooding."""
    mixer, small = np.empty((1, *a.shape[1:]), np.uint64), np.empty((1, a.shape[2]), np.int8)
    for one in range(a.shape[0]):
        mixer[:] = 0
        real_small(mixers[one : one + 1], mixer, constants)
        real_forward(mixer, *there)
        for half in range(2):
            into = out_b[one : one + 1] if half else out_a[one : one + 1]
            given = b[one : one + 1] if half else a[one : one + 1]
            real_product(key_b if half else key_a, mixer, given, into, constants)
            real_inverse(into, *back)
            gaussian(words[one, half], thresholds, small[0])
            real_small(small, into, constants)
        flooding = words[one : one + 1, 2:]
        spread_around(flooding, bits)
        real_wide(flooding, out_b[one : one + 1], constants)


@njit(cache=True, nogil=True)
def hide_words(  # type: ignore[no-untyped-def]  # pragma: no cover
    mixers, words, thresholds, bits, key_a, key_b, a, b, out_a, out_b, constants, there, back
):
    """The same on words."""
    mixer, small = np.empty((1, *a.shape[1:]), np.uint64), np.empty((1, a.shape[2]), np.int8)
    for one in range(a.shape[0]):
        mixer[:] = 0
        word_lift(mixers[one : one + 1], mixer, constants)
        word_forward(mixer, *there)
        for half in range(2):
            into = out_b[one : one + 1] if half else out_a[one : one + 1]
            given = b[one : one + 1] if half else a[one : one + 1]
            word_product(key_b if half else key_a, mixer, given, into, constants)
            word_inverse(into, *back)
            gaussian(words[one, half], thresholds, small[0])
            word_lift(small, into, constants)
        flooding = words[one : one + 1, 2:]
        spread_around(flooding, bits)
        word_wide(flooding, out_b[one : one + 1], constants)


@njit(cache=True, nogil=True)
def seal_real(  # type: ignore[no-untyped-def]  # pragma: no cover
    messages,
    words,
    thresholds,
    masks,
    spare,
    primes,
    secret,
    out,
    constants,
    there,
    modulus,
    bits,
    inverses,
):
    """See ``ciphers.encrypt``: messages int64 [k, N], words of the errors [k, N].

    Masks [k, L, N] are words that are confined first; True: there were too few spare ones [k, S].
    """
    body, small = np.empty((1, *out.shape[1:]), np.uint64), np.empty((1, out.shape[2]), np.int8)
    for one in range(out.shape[0]):
        if confine(masks[one : one + 1], spare[one], primes):
            return True
        body[:] = 0
        gaussian(words[one], thresholds, small[0])
        real_small(small, body, constants)
        real_scale(messages[one : one + 1], body, constants, modulus, bits, inverses)
        real_forward(body, *there)
        real_product(secret, masks[one : one + 1], body, out[one : one + 1], constants)
    return False


@njit(cache=True, nogil=True)
def seal_words(  # type: ignore[no-untyped-def]  # pragma: no cover
    messages,
    words,
    thresholds,
    masks,
    spare,
    primes,
    secret,
    out,
    constants,
    there,
    modulus,
    bits,
    inverses,
):
    """The same on words."""
    body, small = np.empty((1, *out.shape[1:]), np.uint64), np.empty((1, out.shape[2]), np.int8)
    for one in range(out.shape[0]):
        if confine(masks[one : one + 1], spare[one], primes):
            return True
        body[:] = 0
        gaussian(words[one], thresholds, small[0])
        word_lift(small, body, constants)
        word_scale(messages[one : one + 1], body, constants, modulus, bits, inverses)
        word_forward(body, *there)
        word_product(secret, masks[one : one + 1], body, out[one : one + 1], constants)
    return False


@njit(cache=True, nogil=True)
def open_real(a, body, positions, lost, secret, out, constants, there, back, prime):  # type: ignore[no-untyped-def]  # pragma: no cover
    """See ``ciphers.phase``: a uint32 [k, N], body and positions [k, P]."""
    signed, values = np.empty((1, a.shape[1]), np.int64), np.empty((1, 1, a.shape[1]), np.uint64)
    none = np.zeros((1, 1, a.shape[1]), np.uint64)
    for one in range(a.shape[0]):
        for j in range(a.shape[1]):
            signed[0, j] = np.int64(np.int32(a[one, j] << lost))
        values[:] = 0
        real_lift(signed, values, constants)
        real_forward(values, *there)
        real_product(secret, values, none, values, constants)
        real_inverse(values, *back)
        phases(values[0, 0], positions[one], body[one], prime, lost, out[one])


@njit(cache=True, nogil=True)
def open_words(a, body, positions, lost, secret, out, constants, there, back, prime):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The same on words."""
    signed, values = np.empty((1, a.shape[1]), np.int64), np.empty((1, 1, a.shape[1]), np.uint64)
    none = np.zeros((1, 1, a.shape[1]), np.uint64)
    for one in range(a.shape[0]):
        for j in range(a.shape[1]):
            signed[0, j] = np.int64(np.int32(a[one, j] << lost))
        values[:] = 0
        word_lift(signed, values, constants)
        word_forward(values, *there)
        word_product(secret, values, none, values, constants)
        word_inverse(values, *back)
        phases(values[0, 0], positions[one], body[one], prime, lost, out[one])
