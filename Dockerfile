# cervjax in a container; its command is `cervjax`. Tested versions: requirements.lock.
#
#   docker build -t cervjax .                                  CPU
#   docker build -t cervjax:cuda --build-arg EXTRA=cuda .      NVIDIA, CUDA 12 (cuda13: 13)
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" cervjax infer scans/ -o out/
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" cervjax:cuda \
#     infer scans/ -o out/

FROM python:3.11-slim-bookworm AS build
ARG EXTRA=figures
WORKDIR /source
RUN python -m venv /opt/cervjax
ENV PATH=/opt/cervjax/bin:$PATH
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY configs configs
COPY cervjax cervjax
RUN pip install --no-cache-dir --constraint requirements.lock ".[train,figures,dicom,${EXTRA}]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/cervjax /opt/cervjax
ENV PATH=/opt/cervjax/bin:$PATH \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/cache/matplotlib
RUN useradd --create-home --uid 1000 cervjax
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["cervjax"]
CMD ["--help"]
