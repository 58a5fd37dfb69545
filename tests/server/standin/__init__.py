"""The stand-in service: speaks the Fresh Jots REST API strictly as API.md describes it.

Reading order: `switches` (what is uncertain), `world` (what there is), `account` and `note` (the store),
`notes` and `folders` (the rules of the API), `service` (what happens to a request), `front` (HTTP),
`faults` and `delivery` (misfortune on demand), `control` (the port through which tests steer all this).
"""
