"""Texts that would do something where one is taken for what it is not: statements, patterns, markup, paths, signs."""

SQL = (
    "'; DROP TABLE run; --",
    "' OR '1'='1",
    '" OR ""="',
    "1; DELETE FROM run",
    "x' UNION SELECT * FROM store --",
    "\\'; SELECT pg_sleep(10); --",
    ":name %(name)s %s ? $1",
)
LIKE = ("%", "_", "100%", "a_b", "\\%", "\\", "%_\\")
MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "{{7*7}} ${7*7} #{7*7}",
    "[bold red]b[/] [/] [link=http://e]l[/link]",
    "**b** _i_ `c` [l](http://e) ![i](http://e/i.png) | p |",
    "&lt;b&gt; &amp; &#60;",
)
PATHS = (
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "a/../b",
    "%2e%2e%2f",
)
SIGNS = (
    "a\x1b[31mred\x1b[0m",
    "\x1b]8;;http://e\x07l\x1b]8;;\x07",
    "a\rb",
    "a\nb\tc",
    "a\x08\x7fb\x9bc",
    "a\u202eb\u2066c",
    "a\u2028b\ufeffc",
    "\U0001f4a9 é e\u0301 İ ß",
)
FORMULAS = ("=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-1")
UNSTORABLE = ("a\0b", "\ud800")

ALL = (*SQL, *LIKE, *MARKUP, *PATHS, *SIGNS, *FORMULAS)
"""What both databases keep."""
NAMES = tuple(text for text in ALL if text.isprintable())
"""What may be the name of a metric or an artifact."""
