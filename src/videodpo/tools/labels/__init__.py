"""Blind labels: the page on which people compare clips, the import of their votes, and what the votes say."""
