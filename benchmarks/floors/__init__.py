"""The floors: the same facts kept with a bare driver, and nothing around it."""
