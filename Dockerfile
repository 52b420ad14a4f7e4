# medgan on an NVIDIA GPU; PyPI's torch 2.13 brings CUDA 13.0, which needs a driver from 580 on:
#
#   docker build -t medgan .
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD:/data" medgan train --pipeline ct_contrast
#
# On a CPU: docker build -t medgan --build-arg BASE=ubuntu:24.04 \
#             --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu .
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04
FROM ${BASE}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/medgan
ENV PATH=/opt/medgan/bin:$PATH

# EXTRA=postgres adds the driver that `mlflow server` needs for PostgreSQL; see compose.yaml.
ARG EXTRA
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml constraints.txt README.md LICENSE /src/
COPY medgan /src/medgan
COPY pipelines /src/pipelines
COPY configs /src/configs
RUN --mount=type=cache,target=/root/.cache/pip pip install -c /src/constraints.txt "/src${EXTRA:+[$EXTRA]}" && rm -rf /src

# HOME is the mounted folder, whoever runs the container: runs, the MLflow database and the cache outlive it.
RUN useradd --uid 10001 --home-dir /data --create-home medgan
ENV HOME=/data \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONUNBUFFERED=1
USER medgan
WORKDIR /data
ENTRYPOINT ["medgan"]
