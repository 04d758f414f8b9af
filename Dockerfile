# One image for all of it in a cluster: the scheduler (`gpumax up --kubernetes`), the webhook, the agent.
#
#   docker build -t REGISTRY/gpumax:0.1.0 .
#   docker build --build-arg DIGEST=@sha256:... -t REGISTRY/gpumax:0.1.0 .    the very base that was looked at
ARG BASE=python:3.13-slim-trixie
ARG DIGEST=

FROM ${BASE}${DIGEST} AS build
WORKDIR /src
RUN python -m venv /opt/gpumax
COPY requirements/run.txt requirements/cluster.txt requirements/
RUN /opt/gpumax/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: --require-hashes -r requirements/run.txt -r requirements/cluster.txt
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY src src
# The base has no compiler, so this image comes without the native libraries: what runs here asks for none.
RUN GPUMAX_NATIVE=skip /opt/gpumax/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .
# What only builds goes, pip last; modules are compiled here, since nothing can be written later.
RUN /opt/gpumax/bin/pip check && /opt/gpumax/bin/pip uninstall -q -y hatchling editables pathspec pluggy tomlkit trove-classifiers pip
RUN /opt/gpumax/bin/python -m compileall -q /opt/gpumax/lib

FROM ${BASE}${DIGEST}
COPY --from=build /opt/gpumax /opt/gpumax
ENV PATH=/opt/gpumax/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Nobody in particular, and no root. What is written goes to volumes.
USER 65532:65532
ENTRYPOINT ["gpumax"]
CMD ["--help"]
