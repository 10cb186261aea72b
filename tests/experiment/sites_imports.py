"""All that a site imports, once for all that are forked from who imports this."""

import cryptography.hazmat.primitives.serialization
import cryptography.x509  # noqa: F401
import msgpack  # noqa: F401
import OpenSSL.SSL  # noqa: F401
import polars  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
import rich.progress
import rich.table  # noqa: F401
import safetensors.torch  # noqa: F401
import torch  # noqa: F401

import hansa.cli.app
import hansa.experiment.sites.site_run
import hansa.learn.federated.fedavg
import hansa.learn.gossip.dpsgd
import hansa.report.tables  # noqa: F401

from . import sites  # noqa: F401
