"""The models of the chat process: base and tuned share weights, and nothing else."""

import json
import shutil

from luthier.worker.chat_process import Models


def test_a_base_beside_its_tuned_model_renders_as_a_base(finished, tmp_path):
    adapter = tmp_path / "adapter"
    shutil.copytree(finished.sft.result, adapter)
    recorded = json.loads((adapter / "rendering.json").read_text())
    (adapter / "rendering.json").write_text(json.dumps({**recorded, "system_prompt": "In verse."}))
    models = Models()
    with models.use(str(adapter)) as (tuned, _):
        assert tuned.system_prompt == "In verse."
    for _ in range(2):
        with models.use(str(finished.base)) as (base, _):
            assert base.model is tuned.model
            assert base.system_prompt is None
            assert base.source.adapter is None
