# A student's server: for a JupyterHub of containers (docs/hub.md), for Binder, and by itself:
#   docker build -t fmlab . && docker run --rm -p 8888:8888 fmlab
FROM python:3.12-slim

# git is what nbgitpuller pulls with.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/*

# PyTorch without CUDA, a fifth of the size.
WORKDIR /opt/fmlab
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY fmlab fmlab
COPY labs labs
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu ".[hub]"

COPY docs/hub/nbgrader_config.py /etc/jupyter/
ENV FMLAB_EXCHANGE=/srv/nbgrader/exchange

# The user that Binder and most hubs expect, with the labs in its home.
ARG NB_USER=jovyan
ARG NB_UID=1000
ENV USER=${NB_USER} HOME=/home/${NB_USER}
RUN useradd --create-home --no-log-init --uid "${NB_UID}" "${NB_USER}"
USER ${NB_UID}
WORKDIR ${HOME}
RUN python -m fmlab labs

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]
