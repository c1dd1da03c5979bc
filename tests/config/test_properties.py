"""Whatever is given, it is settings or a refusal that names what was wrong."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.config.names import ALIASES, FOREIGN
from luthier.config.read import Resolved, load
from luthier.config.settings import Settings
from luthier.errors import SettingsError

NAMES = [*Settings.model_fields, *ALIASES, *FOREIGN, "lora_dmi", "", "a b", "сontent"]
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "true", "0", "1e-4", "-1", "none", "full", "lora", "dpo", "epoch"])
)
VALUES = (
    PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=4), PLAIN, max_size=2)
)
GIVEN = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(GIVEN, st.dictionaries(st.sampled_from(NAMES), PLAIN, max_size=2))
def test_settings_or_a_refusal_that_names_something_given(arguments, flags):
    try:
        found = load({"model": "m", "dataset": "d", **arguments}, flags)
    except SettingsError as error:
        text = str(error)
        assert any(name in text for name in [*arguments, *flags])
        assert len(text.splitlines()) <= 3
        return
    assert Resolved.from_dict(json.loads(found.to_json())) == found
    assert load(json.loads(found.settings.model_dump_json(exclude_unset=True))) is not None
