"""Freshline side by side with floors and peers. Run with `python -m benchmarks`; the package never imports this.

A *floor* does the least that keeps the same facts, with nothing around it. A *peer* is another program that people use
for the same thing, in an environment of its own.
"""
