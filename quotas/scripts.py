"""The Lua scripts of the quotas, by name: `script("seed")(keys=[...], args=[...])`. Redis runs each as one step."""

from pathlib import Path

from config.common.redis import scripts_in

script = scripts_in(Path(__file__).parent / "lua")
