"""Tasks: what a training step is. The engine knows them by ``protocol.Task`` alone."""
