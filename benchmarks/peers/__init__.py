"""The peers: programs that run in an environment of their own, and import nothing of Freshline.

Each says `{"name": …, "durability": …}` in its first line; then it measures one round per line that it reads, and
answers with `{"value": …}`. Where it offers several things, the line says which. It ends when its input ends.
"""
