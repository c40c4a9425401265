"""Set up the labs, the first time, and open them in JupyterLab:

    python start.py                       another time: the same, in seconds
    python start.py --no-browser          whatever `jupyter lab` understands goes on to it
    python start.py --install-only        set up, and open nothing

All that is installed goes into the folder .venv beside this file: to remove it, delete that folder. On Linux without a
driver for NVIDIA's GPUs the small build of PyTorch is taken; FMLAB_TORCH=default takes the other.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU = "https://download.pytorch.org/whl/cpu"


def main(options):
    if not (3, 10) <= sys.version_info[:2] < (3, 15):
        sys.exit("fmlab needs Python 3.10 to 3.14; this is {}.{}.".format(*sys.version_info[:2]))
    python = install()
    if options == ["--install-only"]:
        return 0
    first = sorted((HERE / "labs").glob("lab*/lab*.ipynb"))[:1]
    root = ["--allow-root"] if hasattr(os, "getuid") and os.getuid() == 0 else []
    return subprocess.call([python, "-m", "jupyter", "lab", f"--notebook-dir={HERE / 'labs'}", *root, *options, *first])


def install():
    """The Python that has the labs' packages; they are installed where this wheel is not yet."""
    folder, (wheel,) = HERE / ".venv", HERE.glob("fmlab-*.whl")
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    stamp, wanted = folder / "installed", wheel.read_bytes()
    if stamp.is_file() and stamp.read_bytes() == wanted and subprocess.call([python, "-c", ""]) == 0:
        return python
    print("Setting up, which takes a few minutes the first time ...", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    subprocess.check_call([*pip, *torch(bool(uv)), "-c", str(HERE / "constraints.txt"), f"{wheel}[jupyter]"])
    stamp.write_bytes(wanted)
    return python


def torch(uv):
    """Where to look for PyTorch beside the usual place."""
    big = sys.platform != "linux" or Path("/proc/driver/nvidia").exists() or os.environ.get("FMLAB_TORCH") == "default"
    return [] if big else ["--extra-index-url", CPU, *(["--index-strategy", "unsafe-best-match"] if uv else [])]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"Setting up failed (exit code {error.returncode}); its last lines above say why. Then try again.")
    except KeyboardInterrupt:
        sys.exit(130)
