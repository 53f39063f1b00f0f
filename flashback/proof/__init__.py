"""Whether the copies on a drive can be read and are what they should be."""
