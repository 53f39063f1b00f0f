"""Getting ready: a new drive, a first configuration, a rehearsal."""
