"""Evidence of trusted hardware: what it says, whether it is genuine, and whether a policy takes it.

``verify`` judges evidence of AMD SEV-SNP, Intel SGX and Intel TDX against a ``Policy``, at a time
that the caller names. Nothing here fetches anything. Layouts of reports and quotes, certificates
and signed lists are read by own strict readers (``der``, ``layout``); the ``cryptography`` package
does the mathematics and no more. Vendors' roots are pinned in ``roots/``.
"""
