"""The language in which runs are asked for, and its answers in pages: grammar, fields, compilation, order, results."""
