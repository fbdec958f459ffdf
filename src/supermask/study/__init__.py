"""The paper as data, and the pictures of what was learnt."""

from __future__ import annotations
