"""Both sides of mode ``shares``, as sessions of every mode are made."""

from hansa.infer.private.shares.share_client import ShareClient
from hansa.infer.private.shares.share_model import ShareModel
from hansa.infer.private.shares.share_server import ShareServer

__all__ = ["ShareClient", "ShareModel", "ShareServer"]
