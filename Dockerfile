# The service, small: no PyTorch, no root, nothing written.
#
#   docker build -t dgiqa .
#   docker run --rm --read-only --tmpfs /tmp -p 8000:8000 dgiqa
#   docker run --rm -v "$PWD:/pictures:ro" dgiqa score /pictures
FROM python:3.12-slim AS build
COPY . /src
RUN python -m venv /opt/dgiqa && /opt/dgiqa/bin/pip install --no-cache-dir "/src[serve,heif]"

FROM python:3.12-slim
COPY --from=build /opt/dgiqa /opt/dgiqa
ENV PATH=/opt/dgiqa/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=passive DGIQA_OFFLINE=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dgiqa"]
CMD ["serve", "--host", "0.0.0.0"]
