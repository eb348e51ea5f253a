"""Commands that inspect, check or summarise a run, or exchange its data."""
