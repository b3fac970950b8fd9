"""docs/record.schema.json, for programs in other languages, is the schema that records are read by.

`python tests/report/test_record_schema.py` writes it anew.
"""

import json
from pathlib import Path

from semback.report import records

SCHEMA = Path(__file__).parents[2] / "docs" / "record.schema.json"


def schema() -> dict:
    """JSON Schema of a record of a run, `runs/NAME/results/RUN.json`."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Record of a run"}
    return head | records.RECORD.json_schema()


def test_the_published_schema_is_that_of_the_records():
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
