"""The gallery: families of models, and the models themselves."""

from luthier.gallery.catalogue import (
    Family,
    GalleryModel,
    all_families,
    all_models,
    family_of,
    find_model,
    nearest_names,
)

__all__ = [
    "Family",
    "GalleryModel",
    "all_families",
    "all_models",
    "family_of",
    "find_model",
    "nearest_names",
]
