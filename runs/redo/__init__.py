"""What is done again on purpose: a run on the same versions (replay), a deployment over past dates (backfill)."""
