"""bitsandbytes is imported without a look at any hub."""

import subprocess
import sys


def test_the_package_that_would_fetch_is_absent_while_bitsandbytes_is_imported(tmp_path):
    (tmp_path / "kernels.py").write_text("raise SystemExit('it was asked to fetch')")
    code = f"""
import importlib.abc, sys
sys.path.insert(0, {str(tmp_path)!r})
seen = []
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        seen.append((name, sys.modules.get("kernels", "present"))) if name == "bitsandbytes.functional" else None
sys.meta_path.insert(0, Watch())
from luthier.kernels.bnb import bitsandbytes
package = bitsandbytes()
assert seen == [("bitsandbytes.functional", None)], seen
assert "kernels" not in sys.modules
assert bitsandbytes() is package
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
