"""JupyterHub for a class that does these labs: jupyterhub -f docs/hub/jupyterhub_config.py

What every hub has its own of is not here: how people log in (`c.JupyterHub.authenticator_class`), where their servers
run (`c.JupyterHub.spawner_class`), and its address. See docs/hub.md.
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821  (JupyterHub provides it)

# The folder through which nbgrader hands out and collects. Whoever does the labs can read it, and write into it.
EXCHANGE = os.environ.get("FMLAB_EXCHANGE", "/srv/nbgrader/exchange")

c.Authenticator.allow_all = True  # whoever can log in
c.Spawner.default_url = "/lab"
c.Spawner.environment = {
    "FMLAB_EXCHANGE": EXCHANGE,
    "JUPYTER_CONFIG_PATH": str(Path(__file__).resolve().parent),  # where students' nbgrader_config.py is
}

# A kernel takes half a gigabyte, a second one runs while `submission()` looks. Enforced where spawners can do it.
c.Spawner.mem_limit = "1.5G"

# A kernel ends after an hour in which nothing ran, a server half an hour later; all notebooks are saved.
c.Spawner.args = [
    "--MappingKernelManager.cull_idle_timeout=3600",
    "--MappingKernelManager.cull_interval=300",
    "--ServerApp.shutdown_no_activity_timeout=5400",
]
c.Spawner.start_timeout = c.Spawner.http_timeout = 120  # when all come at once
