"""The cellar: errors, values, secrets, signals, resources, and the two doors through which programs are started."""
