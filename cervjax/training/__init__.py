"""Training: loop, step, losses, config, checkpoints."""
