"""The store: a folder, or a hub repository, of many deltas over one base.

STORE/store.json                    that this is a store, its version, and the base
STORE/NAME/delta.safetensors        a delta, as `TaskDelta.save` writes it
STORE/NAME/delta_config.json
"""

from __future__ import annotations

from supermask.deltas.store.card import StoreBase
from supermask.deltas.store.contents import StoredDelta, StoredScore, StoreFault, StoreListing
from supermask.deltas.store.delta_store import DeltaStore
from supermask.deltas.store.verification import StoreVerification

__all__ = [
    "DeltaStore",
    "StoreBase",
    "StoreFault",
    "StoreListing",
    "StoreVerification",
    "StoredDelta",
    "StoredScore",
]
