"""Is the drive still what it was? Scrub now; verify and drills follow."""
