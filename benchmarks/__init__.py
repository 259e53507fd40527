"""Side by side with what else there is, each comparison in one run on one machine."""
