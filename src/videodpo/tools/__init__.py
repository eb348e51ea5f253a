"""Commands that look at a run or exchange it."""
