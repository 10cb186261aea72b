"""Privacy of whole nodes by noise in all that leaves them: local differential privacy.

A sender clips what has changed since it last spoke, and adds Gaussian noise before the message
leaves (Duchi et al., 2013; among peers Cyffers et al., 2022): nobody has to be trusted, not even a
server. Peers that send models send what they have last
said plus the clipped and noised difference to it; what they said is known already, so that only
the difference is protected. Clients of a server send updates, which are clipped as they are.
"""

from __future__ import annotations

from typing import ClassVar

from hansa.base.component import register
from hansa.privacy.privacy import Privacy


@register("local", paper="Duchi et al.", year=2013, url="https://arxiv.org/abs/1302.3203")
class LocalPrivacy(Privacy):
    """Each sender clips what is new in its message and adds noise before it leaves."""

    way: ClassVar[str] = "local"
    unit: ClassVar[str] = "all examples of a node, replaced by any others"
    sensitivity: ClassVar[float] = 2.0  # from one clipped vector to another
