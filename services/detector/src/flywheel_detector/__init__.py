"""The detector: notices what changed in calls and scores, and says so on alerts."""
