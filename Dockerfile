# The worker's image: the locked dependencies, the three packages, and the evacuation's worker.
FROM python:3.13-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgomp1 util-linux \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/evacuation
COPY requirements.txt ./
RUN python3 -m venv /opt/venv \
    && python3 -m venv /tmp/uv \
    && /tmp/uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9 \
    && UV_SYSTEM_CERTS=1 /tmp/uv/bin/uv pip sync --no-cache --compile-bytecode --require-hashes \
        --python /opt/venv/bin/python requirements.txt \
    && rm -rf /tmp/uv
COPY pyproject.toml README.md prefect.yaml ./
COPY examples/fleet/fleet.yaml examples/fleet/
COPY blocks blocks
COPY tasks tasks
COPY flows flows
RUN echo /opt/evacuation >"$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/evacuation.pth" \
    && /opt/venv/bin/python -m compileall -q blocks tasks flows
RUN printf '#!/opt/venv/bin/python\nfrom flows.start import main\n\nmain()\n' >/opt/venv/bin/evacuation \
    && chmod +x /opt/venv/bin/evacuation
# what an installation would leave: Prefect finds the worker's type by it
RUN mkdir evacuation.dist-info \
    && printf 'Metadata-Version: 2.1\nName: evacuation\nVersion: 0\n' >evacuation.dist-info/METADATA \
    && printf '[prefect.collections]\nevacuation = tasks.worker.evacuation_worker\n' >evacuation.dist-info/entry_points.txt

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EVACUATION_POOL=evacuation

# the queues of the host whose name it has, as `evacuation deploy` makes them: what runs on another host is not its work
CMD ["sh", "-c", "host=$(uname -n) && exec evacuation worker --pool \"$EVACUATION_POOL\" --work-queue \"$host\" --work-queue \"$host-training\" --work-queue people --name \"$host\""]
