# What `make run` runs, for production: one process tree, no secrets inside, nothing to write to.
# BASE is any image with Python 3.11 or newer, pip's and venv's modules included.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# The set of requirements: `tracing` has what records and sends traces beside it, `worker` has Celery.
ARG REQUIREMENTS=production
COPY requirements/${REQUIREMENTS}.txt requirements/fast.txt /build/
# Only wheels whose hashes are in the repository.
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --only-binary=:all: --require-hashes --requirement "/build/${REQUIREMENTS}.txt"
# And gunicorn's parser in C, which is published as source only: built where a compiler can be had, and left out elsewhere.
# hadolint ignore=DL3008
RUN if command -v apt-get; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi; \
    if command -v gcc; then \
        /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
            --require-hashes --requirement /build/fast.txt; \
    fi; \
    /opt/venv/bin/python -m pip uninstall --yes pip

FROM ${BASE}
# Which commit this is, for /health, logs and metrics: docker build --build-arg COMMIT=$(git rev-parse HEAD)
ARG COMMIT=unknown
ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    APP_ENV=production \
    CATALOG_COMMIT=${COMMIT} \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /srv/catalog
COPY --from=build /opt/venv /opt/venv
COPY config.py gunicorn.conf.py gunicorn_worker.py worker.py wsgi.py ./
COPY migrations migrations
COPY app app
# A volume that is mounted at /srv/media begins as this folder: nginx reads it as another user, but for the originals.
RUN python -m compileall -q app config.py gunicorn_worker.py worker.py wsgi.py migrations \
    && install -d -o 10001 -g 10001 -m 0755 /srv/media
# A number, so that an orchestrator can see that it is not root; nothing else here belongs to it.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "import http.client, os, sys; \
server = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=2); \
server.request('GET', '/livez', headers={'Host': os.environ.get('TRUSTED_HOSTS', 'localhost').split(',')[0].strip(' .')}); \
sys.exit(server.getresponse().status != 200)"]
CMD ["gunicorn", "wsgi:app"]
