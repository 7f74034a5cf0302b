"""One of two processes that share a batch; run by test_training.py."""

import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_num_cpu_devices", 1)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from cervjax.training import parallel  # noqa: E402

parallel.connect()

import numpy as np  # noqa: E402
import optax  # noqa: E402

from cervjax.training.step import StepSettings, make_step  # noqa: E402


def main() -> None:
    from test_step import Small, made_up_batch, start_small

    optimizer = optax.sgd(1.0)
    state = start_small(optimizer)
    body = make_step(Small(), optimizer, StepSettings("dice", 0))
    rank, batch = jax.process_index(), made_up_batch(4)
    own = {k: v[2 * rank : 2 * rank + 2] for k, v in batch.items()}
    state, metrics = parallel.parallel_step(body)(state, parallel.share(own))
    kernel = np.asarray(state.params["head_kernel"]).reshape(-1)[:50]
    print(
        json.dumps(
            {
                "processes": jax.process_count(),
                "loss": float(metrics["loss"]),
                "kernel": kernel.tolist(),
            }
        )
    )


if __name__ == "__main__":
    main()
