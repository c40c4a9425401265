#!/usr/bin/env bash
# Gradescope runs this once, when it makes the image that submissions are graded in.
set -euo pipefail
apt-get update -qq
apt-get install -y --no-install-recommends python3 python3-venv bubblewrap
cd /autograder/source
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt -e '.[grading]'
