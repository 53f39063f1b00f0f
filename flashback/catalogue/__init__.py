"""Which file was in which state of which drive: recorded as deltas, answered with the drives in the safe."""
