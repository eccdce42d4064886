"""THE DOOR. HTTP/2 and gRPC as such: the server, its calls, what peers may cost, reflection, health.

One rule: no service is known here, nor what a message means. May import `model` for the refusals; used by
`api`, which stands behind it, and by `app`.
"""
