"""How a job runs: settings snapshot, seeds, device, locks, signals, exit codes, progress."""
