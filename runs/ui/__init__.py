"""The page: static HTML, styles and ECMAScript modules, and what sends them. There is no build step.

`index.html` is the shell; `scripts/router.js` loads the view that the address means. The page knows the REST API and
nothing else: whatever it shows or does, a program can ask for too.
"""
