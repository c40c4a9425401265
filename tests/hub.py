"""A JupyterHub on this machine, and its users' servers as a browser sees them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
import websocket

from course.build import ROOT
from tests.walls import needs_walls

PROGRAMS = ("jupyterhub", "configurable-http-proxy")
BIN = Path(sys.executable).parent
needs_hub = [
    pytest.mark.skipif(
        not all((BIN / name).exists() or shutil.which(name) for name in PROGRAMS),
        reason='no JupyterHub: pip install "fmlab[dev]"',
    ),
    needs_walls,
]


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


@contextlib.contextmanager
def running(folder: Path, exchange: Path) -> Iterator[str]:
    """The hub of docs/hub/jupyterhub_config.py with homes below `folder`; yields its address.

    Anybody logs in without a password. As in a hub of containers, the one user of the system is called jovyan, and
    nbgrader asks the hub who somebody is.
    """
    (folder / "passwd").write_text(f"jovyan:x:{os.getuid()}:{os.getgid()}::{folder}:/bin/sh\n")
    address = f"http://127.0.0.1:{free_port()}"
    command = ["bwrap", "--dev-bind", "/", "/", "--bind", str(folder / "passwd"), "/etc/passwd", "--die-with-parent"]
    command += [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "docs" / "hub" / "jupyterhub_config.py")]
    command += ["--JupyterHub.authenticator_class=dummy", "--JupyterHub.spawner_class=simple"]
    command += [f"--SimpleLocalProcessSpawner.home_dir_template={folder}/{{username}}"]
    command += [f"--JupyterHub.bind_url={address}", f"--JupyterHub.hub_port={free_port()}"]
    command += [f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}"]
    env = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "FMLAB_EXCHANGE": str(exchange)}
    with (folder / "hub.log").open("w") as log:
        hub = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: hub.poll() is not None or _answers(address), "the hub to start")
            assert hub.poll() is None, (folder / "hub.log").read_text()
            yield address
        finally:
            started = psutil.Process(hub.pid).children(recursive=True)  # users' servers outlive a hub
            hub.terminate()
            hub.wait(60)
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/hub/api/", timeout=5).ok
    except requests.ConnectionError:
        return False


def wait_until(ready, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.2)


class Server:
    """The server of somebody who has logged in."""

    def __init__(self, hub: str, user: str):
        self.session, self.user, self.base = requests.Session(), user, f"{hub}/user/{user}"
        self.session.get(f"{hub}/hub/login")
        login = {"username": user, "password": "", "_xsrf": self.session.cookies.get("_xsrf", path="/hub/")}
        assert self.session.post(f"{hub}/hub/login", data=login).ok
        headers = {"X-XSRFToken": self.session.cookies.get("_xsrf", path="/hub/"), "Referer": f"{hub}/hub/"}
        made = self.session.post(f"{hub}/hub/api/users/{user}/tokens", json={}, headers=headers)
        assert made.ok, made.text
        self.token = {"Authorization": f"token {made.json()['token']}"}
        self.session = requests.Session()
        self.session.headers.update(self.token)
        self.session.post(f"{hub}/hub/api/users/{user}/server").raise_for_status()
        wait_until(
            lambda: self.session.get(f"{hub}/hub/api/users/{user}").json()["servers"][""]["ready"], "a server to start"
        )

    def ask(self, method: str, path: str, **options):
        """What the server answers; nbgrader does not say that its answers are JSON."""
        answer = self.session.request(method, f"{self.base}/{path}", timeout=120, **options)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return json.loads(answer.text) if answer.text.startswith(("{", "[")) else answer.text

    def run(self, folder: str, cells: list[str]) -> list[str]:
        """Run cells in a new kernel in this folder; the errors of those that end with one."""
        kernel = self.ask("POST", "api/kernels", json={"name": "python3", "path": folder})["id"]
        url = f"{self.base.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels"
        socket = websocket.create_connection(url, header=self.token, timeout=300)
        try:
            return [error for source in cells if (error := _execute(socket, source))]
        finally:
            socket.close()
            self.ask("DELETE", f"api/kernels/{kernel}")


def _execute(socket: websocket.WebSocket, source: str) -> str:
    """Run a cell; its error, empty where there is none."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": "",
        "version": "5.3",
    }
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    socket.send(json.dumps(message))
    while True:
        answer = json.loads(socket.recv())
        if answer["msg_type"] == "execute_reply" and answer["parent_header"].get("msg_id") == header["msg_id"]:
            content = answer["content"]
            return "" if content["status"] == "ok" else f"{content.get('ename')}: {content.get('evalue')}"
