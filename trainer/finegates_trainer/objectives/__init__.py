"""Objectives: they close gates and settle the structure; one file per objective."""

from __future__ import annotations
