"""The REST server under `/api/v1`: HTTP around the service and the queries, and nothing that they do not know.

`app` puts it together, `policies` says who may ask what, `security` stands before every request, `problems` turns every
error into one form, `documents` holds the forms of the answers. One module per group of routes. HTTP status codes are
spoken of here and nowhere else.
"""
