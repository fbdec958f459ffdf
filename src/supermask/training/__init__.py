"""Base + method + task -> delta, on `transformers.Trainer`."""

from __future__ import annotations
