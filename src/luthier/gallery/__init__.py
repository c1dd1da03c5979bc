"""The gallery: families of models, and the models themselves."""

from luthier.gallery.cards import Family, GalleryModel, Recommendation, Trap
from luthier.gallery.catalogue import (
    all_families,
    all_models,
    family_of,
    find_model,
    nearest_names,
)
from luthier.gallery.context import context_length
from luthier.gallery.parameters import count_active_parameters, count_parameters, tensor_shapes

__all__ = [
    "Family",
    "GalleryModel",
    "Recommendation",
    "Trap",
    "all_families",
    "all_models",
    "context_length",
    "count_active_parameters",
    "count_parameters",
    "family_of",
    "find_model",
    "nearest_names",
    "tensor_shapes",
]
