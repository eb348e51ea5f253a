"""Runtime of a job: settings snapshot, seeds, device, locks, signals, exit codes, progress."""
