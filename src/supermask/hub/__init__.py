"""Deltas on the hub: where one is, fetching it, publishing it, and the model card that goes with it.

Needs huggingface_hub (extra `hub`) to fetch and publish; a folder on this machine is found without it.
"""

from __future__ import annotations

from supermask.hub.address import HubAddress, parse_address
from supermask.hub.card import model_card
from supermask.hub.fetching import from_pretrained, resolve_delta, resolve_folder
from supermask.hub.publishing import PublishedDelta, push_to_hub, save_pretrained

__all__ = [
    "HubAddress",
    "PublishedDelta",
    "from_pretrained",
    "model_card",
    "parse_address",
    "push_to_hub",
    "resolve_delta",
    "resolve_folder",
    "save_pretrained",
]
