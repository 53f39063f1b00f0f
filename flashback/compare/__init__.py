"""What a master has against what the drive is known to hold: changes, moves, and whether they look like damage."""
