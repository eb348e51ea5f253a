"""Stage: sample videos, or import the user's own clips."""
