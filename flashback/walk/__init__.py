"""A tree of files as it is: what of a master belongs in the backup, and what lies in a copy on a drive."""
