"""RunPort over HTTP: for workers that have no credentials of the database.

`wire` says what travels, `client` is the worker's side (`HttpPort`), `tokens` what lets it in. The server's side is
`api.worker`.
"""
