"""The doors to programs and to the kernel: one file each, none looks into another; here exit codes get a meaning."""
