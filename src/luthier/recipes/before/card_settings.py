"""The middle layer of defaults: what the gallery's card of a model recommends for such a run.

The library's default gives way to the card, the card to whatever somebody gave.
"""

from luthier.config.read import Resolved
from luthier.gallery import find_model


def follow_card(resolved: Resolved, model: str) -> Resolved:
    """The settings with the recommendations of a model's card where nothing was given.

    Args:
        model: Gallery name or hub id of the base; any other name has no card.
    """
    card = find_model(model)
    settings = resolved.settings
    if card is None or settings.from_scratch:
        return resolved
    found = {
        name: (one.value, f"gallery {card.name}: {one.source}")
        for name, one in card.recommendations(settings.method, settings.objective).items()
        if resolved.provenance[name] == "default"
    }
    return resolved.fill(**found) if found else resolved
