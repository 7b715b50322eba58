# monai-zsad in a container: docs/installation.md, "Docker", shows how to build and run it.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
# Extras in brackets, such as [app,dicomweb].
ARG EXTRAS=
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir "hatchling>=1.27" && \
    python -m hatchling build -t wheel -d /wheels && \
    printf '%s%s\n' /wheels/*.whl "${EXTRAS}" > /wheels/requirements.txt

FROM python:${PYTHON}-slim
# The PyTorch build: cpu, or a CUDA version such as cu128.
ARG TORCH=cpu
# A layer of its own: it is the largest, and does not change with the package.
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" "torch>=2.6" "torchvision>=0.21"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --requirement /wheels/requirements.txt

# Any user may write here, so that `docker run --user` works. Caches of libraries must not need a home.
RUN useradd --create-home --uid 1000 zsad && install -d -m 1777 /weights /results
ENV MONAI_ZSAD_WEIGHTS=/weights \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/weights", "/results"]
WORKDIR /results
USER 1000
ENTRYPOINT ["monai-zsad"]
CMD ["--help"]
