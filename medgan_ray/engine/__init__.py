"""The training engine: the loop, its state, its ranks, its schedules, its figures. It knows tasks by their protocol."""
