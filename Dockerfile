# docker build --tag semback . && docker run --rm --publish 8888:8888 semback
# The same versions as everywhere, from the hashed lock. No test builds it: where these run there is no docker.
FROM python:3.13-slim
RUN useradd --create-home reader
WORKDIR /home/reader/semback
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --require-hashes --no-deps --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY semback semback
COPY cache/recordings cache/recordings
COPY notebooks notebooks
RUN python -m pip install --no-build-isolation --no-deps --editable . && chown -R reader .
USER reader
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks"]
