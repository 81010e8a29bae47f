# The application and its run-time dependencies, nothing to build with, no right to write.
# BASE is an argument so that the image can be built from a mirror or a base of one's own; both
# stages need the same Python, 3.11 or newer, at the same path.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY requirements/runtime.txt /build/runtime.txt
# pip stays in an environment of its own: the one that is shipped holds only what is pinned.
RUN python3 -m venv /build/pip \
    && python3 -m venv --without-pip /opt/venv \
    && /build/pip/bin/pip --python /opt/venv/bin/python3 install \
        --no-cache-dir --disable-pip-version-check --only-binary :all: --no-deps \
        --require-hashes --requirement /build/runtime.txt
COPY service /app/service
COPY scim /app/scim
COPY consumers /app/consumers
COPY operators /app/operators
# Compiled here, since the file system is read-only there; checked by nothing, since nothing changes.
RUN /opt/venv/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /app \
    && printf '#!/bin/sh\nexec python -m operators "$@"\n' > /opt/venv/bin/provisioner \
    && chmod 755 /opt/venv/bin/provisioner

FROM ${BASE}
LABEL org.opencontainers.image.title="auth0-provisioner"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=3)"]
ENTRYPOINT ["python", "-m", "operators"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
