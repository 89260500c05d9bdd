"""Decoders, their weights and cards, the device they run on and the cache of what they saw."""

from napari_histosam.models.cards import ModelCard, WeightFile
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.protocols import Candidates, Embedding, ObjectPrompts, PromptModel
from napari_histosam.models.registry import ModelRegistry

__all__ = [
    "Candidates",
    "Embedding",
    "EmbeddingCache",
    "ModelCard",
    "ModelRegistry",
    "ObjectPrompts",
    "PromptModel",
    "WeightFile",
]
