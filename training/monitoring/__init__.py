"""What a run shows of itself: statistics, signs of collapse, a time-lapse of its grids, and a report."""
