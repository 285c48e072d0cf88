# One image for the pair: the web server (its default command) and the worker (`python -m jobs.worker`).

FROM python:3.11-slim-bookworm AS base


FROM base AS build
WORKDIR /app
# Wheels alone: nothing is compiled, and no package runs code of its own to be installed. Their tests stay out.
COPY requirements.txt ./
RUN python -m venv --without-pip /venv \
    && pip --python /venv install --no-cache-dir --only-binary :all: -r requirements.txt \
    && find /venv -type d \( -name tests -o -name testing \) -prune -exec rm -r {} +
# What belongs in the image is listed in .dockerignore. Compiled here: at run time the files are read-only.
# Readable to all, whatever the umask was under which they were checked out.
COPY . .
RUN python -m compileall -q --invalidation-mode checked-hash . && chmod -R a+rX .


FROM base
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin gateway
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
# An image started with no setting at all is a production one, and says which secret it misses.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    APP_ENV=production \
    HOST=0.0.0.0
# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
EXPOSE 8000 3000 3001
# 200 is healthy or degraded (payments are taken), 503 is not. docker-compose.yml has the worker's own check.
# No urllib: it would ask a proxy that the Docker client may have set for all containers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=45s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
CMD ["gunicorn", "--config", "gunicorn.conf.py"]
