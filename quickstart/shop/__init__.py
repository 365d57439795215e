"""A demo shop for stock prices: services instrumented as anyone's would be, which fail when they are told to.

    scheduler ──► api-service ──► network ──► yahoo_finance_proxy
        │              └──► PostgreSQL              ▲
        └───────────────────────────────────────────┘

``network`` is no service: it forwards bytes, knows nothing of traces, and can be slow. These modules import
``tracewatch``, as the services of its users do; nothing else in quickstart does.
"""
