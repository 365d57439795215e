# One image for every room; the command says which: python -m stream, python -m sink, ...; for operators, too:
# python -m replay, python -m quickstart doctor.
# Pinned by version, not by digest: docs/security.md says why, and how to add digests.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
# Dependencies change seldom, rooms often: what the rooms import is installed before they are copied.
COPY pyproject.toml README.md LICENSE ./
COPY producer/python producer/python
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir ".[core,dashboard,gateway,live-api,migrations,replay,sink,stream]"

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp tracewatch
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY tracecore tracecore
COPY migrations migrations
COPY stream stream
COPY sink sink
COPY live_api live_api
COPY dashboard dashboard
COPY replay replay
COPY quickstart quickstart
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Compiled here, so that no worker does: TRACEWATCH's rooms find it where numba is told to look.
ENV NUMBA_CACHE_DIR=/opt/compiled
RUN install --directory --owner=10001 /opt/compiled
USER 10001
RUN python -m stream.compiled && python -m sink.compiled
CMD ["python", "-m", "stream"]
