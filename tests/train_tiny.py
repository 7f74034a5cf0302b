"""Trains with a config from a JSON file; run, and killed, by test_fitting.py."""

import json
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from cervjax import fitting

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    config = ConfigDict(json.loads(Path(sys.argv[1]).read_text()))
    sys.exit(fitting.run(config, Path(sys.argv[2])))
