"""Fixtures of the attacks: an account in memory, what acts on it, and a scene played there."""

from tests.unit.conftest import cloud, scene, storage

__all__ = ["cloud", "scene", "storage"]
