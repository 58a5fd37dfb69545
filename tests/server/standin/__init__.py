"""The stand-in service: speaks the Fresh Jots REST API strictly as API.md describes it.

Reading order: `switches` (what is uncertain), `world` (what there is), `account` and `note` (the store),
`notes`, `edits`, `appends`, `bulk` and `folders` (the rules of the API), `work` (the way of a request to
them), `front` (HTTP), `faults`, `service` and `delivery` (misfortune on demand), `control` (the port through
which tests steer all this).
"""
