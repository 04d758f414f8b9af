# One image for all of it in a cluster: the scheduler (`gpumax up --kubernetes`), the webhook, the agent.
#
#   make wheels                                  the wheel that it has, for both kinds of machines, with the layer under CUDA for every container
#   docker build -t REGISTRY/gpumax:0.1.0 .
#   docker build --build-arg DIGEST=@sha256:... -t REGISTRY/gpumax:0.1.0 .    the very base that was looked at
ARG BASE=python:3.13-slim-trixie
ARG DIGEST=

FROM ${BASE}${DIGEST} AS build
WORKDIR /src
RUN python -m venv /opt/gpumax
COPY requirements/run.txt requirements/cluster.txt requirements/
RUN /opt/gpumax/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: --require-hashes -r requirements/run.txt -r requirements/cluster.txt
# The layer under CUDA that the agent gives to containers comes in the wheel: compiled for old C libraries, too, which this base's compiler couldn't.
COPY dist dist
RUN /opt/gpumax/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index dist/gpumax-*_$(uname -m).whl
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
