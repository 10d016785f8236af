"""What diverged from Prefect, and what time alone changes: found and put right, by any number of reconcilers."""
